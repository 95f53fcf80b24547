//! How far an account of the system is there: pure.

use push_wire::name::UserName;

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

/// How far the account of a user is there, by the texts of passwd(5) and group(5): the fourth field of a user
/// is the number of its group. Without a text of groups, nothing is known of them.
pub fn judge(users: &str, groups: &str, user: &UserName) -> Account {
    let of = |name: &UserName, line: &str| line.split(':').next() == Some(name.as_str());
    let of_user = |line: &&str| of(user, line);
    let Some(line) = users.lines().find(of_user) else {
        return Account::Missing;
    };
    if groups.is_empty() {
        return Account::Whole;
    }
    let gid = line.split(':').nth(3).and_then(|gid| gid.parse().ok());
    let named = |gid: u32| {
        let mut numbers = groups.lines().map(|line| line.split(':').nth(2));
        numbers.any(|number| number.and_then(|number| number.parse().ok()) == Some(gid))
    };
    match gid {
        Some(gid) if !named(gid) && !groups.lines().any(|line| of(user, line)) => {
            Account::Groupless { gid }
        }
        Some(_) | None => Account::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_a_cut_left_without_its_group_is_told_from_one_that_has_another() {
        let groups = "root:x:0:\nusers:x:100:\napi:x:998:\n";
        let of = |line: &str| {
            judge(
                &format!("root:x:0:0::/:/bin/sh\n{line}\n"),
                groups,
                &"app".parse().unwrap(),
            )
        };
        assert_eq!(of("api:x:998:998::/:/bin/false"), Account::Missing);
        assert_eq!(of("app:x:998:998::/:/bin/false"), Account::Whole);
        assert_eq!(of("app:x:997:100::/:/bin/false"), Account::Whole);
        assert_eq!(
            of("app:x:997:997::/:/bin/false"),
            Account::Groupless { gid: 997 }
        );
        assert_eq!(of("app"), Account::Whole, "nothing that push could mend");
        let root = judge("api:x:5:7::/:/bin/false\n", groups, &"api".parse().unwrap());
        assert_eq!(root, Account::Whole, "a group of the name is there");
    }
}
