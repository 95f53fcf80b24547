//! The syntax of ProxyJump: `[user@]host[:port]` or `ssh://[user@]host[:port]`, separated by commas.

use super::{Error, check_name, is_address_byte, is_user_byte};
use crate::visible;

/// One jump host as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// Reads a list; `none` and the empty list are no hops.
pub(super) fn parse(host: &str, list: &str) -> Result<Vec<Hop>, Error> {
    let list = list.trim();
    if list.is_empty() || list.eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    let unreadable = |text: &str| Error::Config {
        host: host.to_owned(),
        reason: format!(
            "`{}` is not a jump host: write [user@]host[:port]",
            visible::escape(text.as_bytes(), 100)
        ),
    };
    list.split(',')
        .map(str::trim)
        .map(|text| hop(text)?.ok_or_else(|| unreadable(text)))
        .collect()
}

fn hop(text: &str) -> Result<Option<Hop>, Error> {
    let text = text
        .strip_prefix("ssh://")
        .map_or(text, |rest| rest.trim_end_matches('/'));
    let (user, place) = match text.rsplit_once('@') {
        Some((user, place)) => (Some(user.to_owned()), place),
        None => (None, text),
    };
    let Some((host, port)) = host_and_port(place) else {
        return Ok(None);
    };
    check_name("jump host", &host, is_address_byte)?;
    if let Some(user) = &user {
        check_name("user of the jump host", user, is_user_byte)?;
    }
    Ok(Some(Hop { user, host, port }))
}

fn host_and_port(place: &str) -> Option<(String, Option<u16>)> {
    let (host, rest) = match place.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        // More than one colon without brackets is an IPv6 address without a port.
        None if place.matches(':').count() > 1 => (place, ""),
        None => place.find(':').map_or((place, ""), |at| place.split_at(at)),
    };
    match rest.strip_prefix(':') {
        Some(port) => Some((host.to_owned(), Some(port.parse().ok()?))),
        None => rest.is_empty().then(|| (host.to_owned(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops(list: &str) -> Vec<(Option<String>, String, Option<u16>)> {
        parse("web1", list)
            .unwrap()
            .into_iter()
            .map(|hop| (hop.user, hop.host, hop.port))
            .collect()
    }

    #[test]
    fn every_way_of_writing_a_jump_host_is_read() {
        assert_eq!(hops("none"), []);
        assert_eq!(hops("a"), [(None, "a".into(), None)]);
        assert_eq!(
            hops("me@a:2222, ssh://b:22/,[2001:db8::1]:23,2001:db8::2"),
            [
                (Some("me".into()), "a".into(), Some(2222)),
                (None, "b".into(), Some(22)),
                (None, "2001:db8::1".into(), Some(23)),
                (None, "2001:db8::2".into(), None),
            ]
        );
    }

    #[test]
    fn what_is_no_jump_host_is_refused() {
        for list in [
            "a,,b",
            "-oProxyCommand=x",
            "a:99999",
            "a b",
            "$(id)",
            "me@",
            "[::1",
            "[::1]x",
        ] {
            assert!(parse("web1", list).is_err(), "{list}");
        }
    }
}
