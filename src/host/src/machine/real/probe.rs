//! Asks an app once whether it is well. Every question is bounded in time and in what is read; the
//! answer is untrusted text, cut short. A bearer token never appears in it.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use push_wire::health::{HttpProbe, Probe};
use push_wire::name::{AppName, UserName};
use serde_json::Value;

use super::process::Program;
use crate::layout::{Layout, MARKER_ADDRESS};
use crate::machine::ToolError;

/// How long one question may take. `inventory/example.toml` says so.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// How much of an answer's body is read, in bytes.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// How much of an answer is told, in characters.
const ANSWER_CHARS_MAX: usize = 400;

/// The longest token, in bytes.
const TOKEN_BYTES_MAX: u64 = 16 << 10;

/// How long nginx has to answer on the loopback.
const MARKER_LIMIT: Duration = Duration::from_millis(500);

/// How much of nginx's answer is read, in bytes.
const MARKER_BYTES_MAX: u64 = 4096;

/// Asks the app of a user.
pub(super) fn ask(
    layout: &Layout,
    (app, user): (&AppName, &UserName),
    probe: &Probe,
) -> Result<(), String> {
    let answer = match probe {
        Probe::Tcp { host, port } => tcp(host, *port),
        Probe::Http(probe) => http(layout, app, probe, PROBE_LIMIT),
        Probe::Command { argv } => command(layout, (app, user), argv),
    };
    answer.map_err(|answer| short(&answer))
}

fn short(answer: &str) -> String {
    answer.chars().take(ANSWER_CHARS_MAX).collect()
}

/// What is told of a question that has no answer yet when its time is over: that it has a time of its own,
/// however long the app may take until all of them pass.
fn late(asked: &str, limit: Duration) -> String {
    format!(
        "{asked}: no answer within {} s, the time that each try has",
        limit.as_secs()
    )
}

fn tcp(host: &str, port: u16) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{host}:{port}: {error}");
    let addresses = (host, port).to_socket_addrs().map_err(wrong)?;
    let mut last = format!("{host} has no address");
    for address in addresses.take(4) {
        match TcpStream::connect_timeout(&address, PROBE_LIMIT) {
            Ok(_) => return Ok(()),
            Err(error) => last = unconnected(address, &error),
        }
    }
    Err(last)
}

fn unconnected(address: SocketAddr, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::TimedOut {
        return late(&address.to_string(), PROBE_LIMIT);
    }
    format!("{address}: {error}")
}

/// Run as the app's user, in its release, with none of root's powers.
fn command(
    layout: &Layout,
    (app, user): (&AppName, &UserName),
    argv: &[String],
) -> Result<(), String> {
    let identity = [format!("--reuid={user}"), format!("--regid={user}")];
    let mut all = vec![
        "setpriv",
        &identity[0],
        &identity[1],
        "--init-groups",
        "--no-new-privs",
    ];
    all.extend(["--inh-caps=-all", "--bounding-set=-all", "--"]);
    all.extend(argv.iter().map(String::as_str));
    Program::new(&all, PROBE_LIMIT)
        .folder(layout.app_current(app))
        .succeed()
        .map(drop)
        .map_err(|error| unfinished(argv, &error))
}

fn unfinished(argv: &[String], error: &ToolError) -> String {
    match error {
        ToolError::Late { .. } => late(&argv.join(" "), PROBE_LIMIT),
        ToolError::Missing { .. } | ToolError::Failed { .. } => error.to_string(),
    }
}

fn http(layout: &Layout, app: &AppName, probe: &HttpProbe, limit: Duration) -> Result<(), String> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_global(Some(limit))
        .build();
    let mut request = ureq::Agent::new_with_config(config).get(&probe.url);
    for (name, value) in &probe.send {
        request = request.header(name, value);
    }
    if let Some(file) = &probe.bearer {
        let token = super::disk::read(&layout.secret(app, file), TOKEN_BYTES_MAX);
        let token = zeroize::Zeroizing::new(token.map_err(|error| error.to_string())?);
        let token = std::str::from_utf8(&token).map_err(|_| format!("{file} is not text"))?;
        let value = zeroize::Zeroizing::new(format!("Bearer {}", token.trim_end()));
        if value.chars().any(char::is_control) {
            return Err(format!(
                "{file} holds a control character and cannot be a token"
            ));
        }
        request = request.header("Authorization", value.as_str());
    }
    let unanswered = |error: ureq::Error| match error {
        ureq::Error::Timeout(_) => late(&probe.url, limit),
        other => format!("{}: {other}", probe.url),
    };
    let mut answer = request.call().map_err(unanswered)?;
    let status = answer.status().as_u16();
    let headers = header_texts(answer.headers());
    let mut body = Vec::new();
    let read = answer
        .body_mut()
        .as_reader()
        .take(BODY_BYTES_MAX)
        .read_to_end(&mut body);
    judge(probe, status, &headers, &body)?;
    // A body that broke off matters only when something was wanted of it.
    match read {
        Err(error) if wants_body(probe) => Err(unanswered(error.into())),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn wants_body(probe: &HttpProbe) -> bool {
    probe.body.is_some() || !probe.json.is_empty()
}

fn header_texts(headers: &ureq::http::HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        texts
            .entry(name.as_str().to_ascii_lowercase())
            .or_default()
            .push(value);
    }
    texts
}

/// Whether an answer is the one that was wanted.
fn judge(
    probe: &HttpProbe,
    status: u16,
    headers: &BTreeMap<String, Vec<String>>,
    body: &[u8],
) -> Result<(), String> {
    let text = String::from_utf8_lossy(body);
    let passes = probe
        .status
        .iter()
        .any(|(first, last)| (first..=last).contains(&&status));
    if !passes {
        return Err(format!("status {status}: {}", text.trim()));
    }
    for (name, wanted) in &probe.headers {
        let found = headers
            .get(&name.to_ascii_lowercase())
            .map_or(&[][..], Vec::as_slice);
        if !found.contains(wanted) {
            return Err(format!("header {name} is {found:?}, wanted {wanted:?}"));
        }
    }
    if let Some(wanted) = &probe.body
        && !text.contains(wanted.as_str())
    {
        return Err(format!(
            "the body does not hold {wanted:?}: {}",
            text.trim()
        ));
    }
    if probe.json.is_empty() {
        return Ok(());
    }
    let json: Value =
        serde_json::from_slice(body).map_err(|error| format!("not JSON ({error}): {text}"))?;
    for (path, wanted) in &probe.json {
        let found = field(&json, path);
        if found != Some(wanted) {
            let found = found.map_or("missing".to_owned(), Value::to_string);
            return Err(format!("{path} is {found}, wanted {wanted}"));
        }
    }
    Ok(())
}

/// The field at a dotted path; a number in it counts into a list.
fn field<'a>(json: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(json, |at, key| match at {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        Value::Object(fields) => fields.get(key),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

/// Asks nginx over a new connection, which only a worker that still accepts can answer. Where nobody listens,
/// nothing of push's is served; an answer that does not come says neither.
pub(super) fn nginx_generation() -> io::Result<Option<u64>> {
    let address: SocketAddr = MARKER_ADDRESS.parse().map_err(io::Error::other)?;
    let mut connection = match TcpStream::connect_timeout(&address, MARKER_LIMIT) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
        other => other?,
    };
    connection.set_read_timeout(Some(MARKER_LIMIT))?;
    connection.set_write_timeout(Some(MARKER_LIMIT))?;
    connection.write_all(b"GET /generation HTTP/1.0\r\nHost: push\r\n\r\n")?;
    let mut answer = String::new();
    connection
        .take(MARKER_BYTES_MAX)
        .read_to_string(&mut answer)?;
    Ok(marker(&answer))
}

/// The generation that an answer tells; `None` for what is no answer of push's marker.
fn marker(answer: &str) -> Option<u64> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).filter(|status| *status == "200")?;
    body.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(url: String) -> HttpProbe {
        HttpProbe {
            url,
            send: BTreeMap::new(),
            bearer: None,
            status: vec![(200, 299)],
            headers: BTreeMap::new(),
            body: None,
            json: BTreeMap::new(),
        }
    }

    /// Answers one request with `answer`; returns the URL, and what was asked.
    fn once(answer: Vec<u8>) -> (String, std::thread::JoinHandle<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/health", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let read = connection.read(&mut request).unwrap();
            // The asker may have hung up already, having seen enough.
            let _ = connection.write_all(&answer);
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        (url, asked)
    }

    fn answer(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nX-Release: r2\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .into_bytes()
    }

    fn asked_with(change: impl Fn(&mut HttpProbe), answer: Vec<u8>) -> Result<(), String> {
        let scratch = tempfile::tempdir().unwrap();
        let layout = Layout::new(scratch.path());
        let app: AppName = "api".parse().unwrap();
        std::fs::create_dir_all(layout.app_secrets(&app)).unwrap();
        std::fs::write(layout.secret(&app, &"token".parse().unwrap()), "s3cret\n").unwrap();
        let (url, asked) = once(answer);
        let mut probe = probe(url);
        change(&mut probe);
        let user = UserName::from(&app);
        let verdict = ask(
            &layout,
            (&app, &user),
            &Probe::Http(Box::new(probe.clone())),
        );
        let request = asked.join().unwrap();
        assert_eq!(request.contains("Bearer s3cret"), probe.bearer.is_some());
        verdict
    }

    #[test]
    fn an_answer_passes_only_if_all_that_was_wanted_is_there() {
        let ok = || answer("200 OK", r#"{"status":"ok","db":{"ready":[true,false]}}"#);
        asked_with(|_| {}, ok()).unwrap();
        asked_with(|p| p.bearer = Some("token".parse().unwrap()), ok()).unwrap();
        asked_with(
            |p| drop(p.json.insert("db.ready.0".into(), true.into())),
            ok(),
        )
        .unwrap();
        asked_with(
            |p| drop(p.headers.insert("x-release".into(), "r2".into())),
            ok(),
        )
        .unwrap();
        let no = |change: fn(&mut HttpProbe)| asked_with(change, ok()).unwrap_err();
        assert!(no(|p| p.status = vec![(204, 204)]).contains("status 200"));
        assert!(no(|p| p.body = Some("ready!".into())).contains("does not hold"));
        assert!(no(|p| drop(p.json.insert("db.ready.1".into(), true.into()))).contains("is false"));
        assert!(no(|p| drop(p.json.insert("db.x.y".into(), 1.into()))).contains("missing"));
        assert!(no(|p| drop(p.headers.insert("x-release".into(), "r1".into()))).contains("r2"));
    }

    #[test]
    fn a_redirect_is_an_answer_and_is_not_followed() {
        assert!(
            asked_with(|_| {}, answer("302 Found", ""))
                .unwrap_err()
                .contains("302")
        );
        asked_with(|p| p.status = vec![(300, 399)], answer("302 Found", "")).unwrap();
    }

    #[test]
    fn a_hostile_answer_is_bounded() {
        let huge = answer("500 Oops", &"\u{1b}[31m".repeat(100_000));
        let said = asked_with(|_| {}, huge).unwrap_err();
        assert!(said.chars().count() <= ANSWER_CHARS_MAX);
        asked_with(|_| {}, b"not http at all\r\n\r\n".to_vec()).unwrap_err();
    }

    #[test]
    fn what_does_not_answer_in_time_is_told_how_long_that_is() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let silent = probe(format!("http://{address}/health"));
        let app: AppName = "api".parse().unwrap();
        let limit = Duration::from_secs(1);
        let http = http(&Layout::new("/"), &app, &silent, limit).unwrap_err();
        assert!(http.contains("/health: no answer within 1 s"), "{http}");
        let tool = "setpriv --reuid=api -- api check".to_owned();
        let ended = ToolError::Late { tool, seconds: 5 };
        let command = unfinished(&["api".to_owned(), "check".to_owned()], &ended);
        assert!(
            command.starts_with("api check: no answer within 5 s"),
            "{command}"
        );
        let tcp = unconnected(address, &io::ErrorKind::TimedOut.into());
        assert!(tcp.contains("no answer within 5 s"), "{tcp}");
    }

    #[test]
    fn a_closed_port_is_told_and_an_open_one_passes() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        tcp("127.0.0.1", port).unwrap();
        drop(listener);
        assert!(tcp("127.0.0.1", port).unwrap_err().contains("refused"));
    }
}
