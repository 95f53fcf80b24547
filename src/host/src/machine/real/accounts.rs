//! Users and groups by number, read from `/etc/passwd` and `/etc/group`: a static program has no NSS.
//! Users of a directory service are therefore unknown here; apps' users are local ones.

use std::io;
use std::path::Path;

use push_wire::name::UserName;

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

/// How far an account is there. Each of its files is written by itself, so a host that lost power meanwhile
/// may have it in some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// It is not.
    Missing,
    /// The user is there, and a group of its number is not.
    Groupless {
        /// The number.
        gid: u32,
    },
    /// It is.
    Whole,
}

/// How far the account of a user is there.
pub fn account(passwd: &Path, group: &Path, user: &UserName) -> io::Result<Account> {
    let users = super::disk::read(passwd, ACCOUNTS_BYTES_MAX)?;
    let groups = super::disk::read(group, ACCOUNTS_BYTES_MAX)?;
    Ok(judge(
        &String::from_utf8_lossy(&users),
        &String::from_utf8_lossy(&groups),
        user.as_str(),
    ))
}

/// The third field of a user is its number and the fourth that of its group: passwd(5).
fn judge(users: &str, groups: &str, user: &str) -> Account {
    let of_user = |line: &&str| line.split(':').next() == Some(user);
    let Some(line) = users.lines().find(of_user) else {
        return Account::Missing;
    };
    let gid = line.split(':').nth(3).and_then(|gid| gid.parse().ok());
    let named = |gid: u32| {
        let mut numbers = groups.lines().map(|line| line.split(':').nth(2));
        numbers.any(|number| number.and_then(|number| number.parse().ok()) == Some(gid))
    };
    match gid {
        Some(gid) if !named(gid) && find(groups, user).is_none() => Account::Groupless { gid },
        Some(_) | None => Account::Whole,
    }
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
    fn an_account_that_a_cut_left_without_its_group_is_told_from_one_that_has_another() {
        let groups = "root:x:0:\nusers:x:100:\napi:x:998:\n";
        let of = |line: &str| judge(&format!("root:x:0:0::/:/bin/sh\n{line}\n"), groups, "app");
        assert_eq!(of("api:x:998:998::/:/bin/false"), Account::Missing);
        assert_eq!(of("app:x:998:998::/:/bin/false"), Account::Whole);
        assert_eq!(of("app:x:997:100::/:/bin/false"), Account::Whole);
        assert_eq!(
            of("app:x:997:997::/:/bin/false"),
            Account::Groupless { gid: 997 }
        );
        assert_eq!(of("app"), Account::Whole, "nothing that push could mend");
        let root = judge("api:x:5:7::/:/bin/false\n", groups, "api");
        assert_eq!(root, Account::Whole, "a group of the name is there");
    }

    #[test]
    fn a_user_is_found_by_its_whole_name_only() {
        let text =
            "root:x:0:0:root:/root:/bin/sh\napi-2:x:998:\napi:x:999:999::/:/bin/false\nbroken\n";
        assert_eq!(find(text, "api"), Some(999));
        assert_eq!(find(text, "ap"), None);
        assert_eq!(find(text, "broken"), None);
    }
}
