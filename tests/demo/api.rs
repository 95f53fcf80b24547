//! The demo's app: a server that needs its port, its secret and a moment to start, and says so.
//! It is what `push rehearse demo` carries to the hosts, small enough to be read in a minute.

use std::env;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// How long a client may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// The longest request line, in bytes.
const LINE_BYTES_MAX: u64 = 8 << 10;

fn main() -> io::Result<()> {
    let port = env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let region = env::var("REGION").unwrap_or_else(|_| "nowhere".to_owned());
    let token = token()?;
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    for client in listener.incoming().flatten() {
        // A client that went away is that client's loss alone.
        let _ = answer(client, &region, &token);
    }
    Ok(())
}

/// The secret, as systemd hands it over.
fn token() -> io::Result<String> {
    let folder = env::var("CREDENTIALS_DIRECTORY").map_err(|_| {
        io::Error::other("CREDENTIALS_DIRECTORY is not set: the unit passes no credential")
    })?;
    Ok(fs::read_to_string(format!("{folder}/api-token"))?
        .trim()
        .to_owned())
}

fn answer(client: TcpStream, region: &str, token: &str) -> io::Result<()> {
    client.set_read_timeout(Some(REQUEST_TIME))?;
    let mut line = String::new();
    BufReader::new(io::Read::take(&client, LINE_BYTES_MAX)).read_line(&mut line)?;
    let (status, body) = match line.split(' ').nth(1) {
        Some("/health") => (
            "200 OK",
            format!("{{\"status\":\"ok\",\"region\":\"{region}\"}}"),
        ),
        Some("/token-length") => ("200 OK", token.len().to_string()),
        _ => ("404 Not Found", "{}".to_owned()),
    };
    let length = body.len();
    let mut client = client;
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
