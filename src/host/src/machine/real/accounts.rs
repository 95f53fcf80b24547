//! Users and groups by number, read from `/etc/passwd` and `/etc/group`: a static program has no NSS.
//! Users of a directory service are therefore unknown here; apps' users are local ones.

use std::io;
use std::path::Path;

use push_wire::name::UserName;

use crate::accounts::{self, Account};

/// The longest account file that is read, in bytes.
const ACCOUNTS_BYTES_MAX: u64 = 16 << 20;

/// The number of a user.
pub fn uid(passwd: &Path, user: &UserName) -> io::Result<u32> {
    number(passwd, user)
}

/// The number of a group.
pub fn gid(group: &Path, name: &UserName) -> io::Result<u32> {
    number(group, name)
}

/// How far the account of a user is there.
pub fn account(passwd: &Path, group: &Path, user: &UserName) -> io::Result<Account> {
    let users = super::disk::read(passwd, ACCOUNTS_BYTES_MAX)?;
    let groups = super::disk::read(group, ACCOUNTS_BYTES_MAX)?;
    Ok(accounts::judge(
        &String::from_utf8_lossy(&users),
        &String::from_utf8_lossy(&groups),
        user,
    ))
}

/// Both files hold the name first and its number third: passwd(5), group(5).
fn number(file: &Path, name: &UserName) -> io::Result<u32> {
    if *name == UserName::root() {
        return Ok(0);
    }
    let text = super::disk::read(file, ACCOUNTS_BYTES_MAX)?;
    find(&String::from_utf8_lossy(&text), name.as_str()).ok_or_else(|| {
        let why = format!("{} does not name {name}", file.display());
        io::Error::new(io::ErrorKind::NotFound, why)
    })
}

fn find(text: &str, name: &str) -> Option<u32> {
    text.lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name_only() {
        let text =
            "root:x:0:0:root:/root:/bin/sh\napi-2:x:998:\napi:x:999:999::/:/bin/false\nbroken\n";
        assert_eq!(find(text, "api"), Some(999));
        assert_eq!(find(text, "ap"), None);
        assert_eq!(find(text, "broken"), None);
    }
}
