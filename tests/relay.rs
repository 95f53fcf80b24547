//! A TCP relay on loopback that passes bytes on until it is told to stall or to cut.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A relay to one port.
pub struct Relay {
    /// Where it listens.
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    stalled: AtomicBool,
    passed: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Relays to `port` on loopback.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::default(),
        };
        let state = relay.state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                let mut streams = state.streams.lock().unwrap();
                streams.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                pass(
                    client.try_clone().unwrap(),
                    server.try_clone().unwrap(),
                    state.clone(),
                );
                pass(server, client, state.clone());
            }
        });
        relay
    }

    /// Bytes passed on so far, both ways together.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::Relaxed)
    }

    /// Passes nothing on from now on, and keeps every connection open.
    pub fn stall(&self) {
        self.state.stalled.store(true, Ordering::Relaxed);
    }

    /// Closes every connection.
    pub fn cut(&self) {
        for stream in self.state.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, state: Arc<State>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            while state.stalled.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
            state.passed.fetch_add(length as u64, Ordering::Relaxed);
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
