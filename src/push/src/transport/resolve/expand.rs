//! `~`, `%h` and `${VAR}` in ssh_config's values (ssh_config(5), "TOKENS" and "ENVIRONMENT
//! VARIABLES"), which `ssh -G` prints unexpanded.

use super::{Error, Laptop, Target};
use std::path::PathBuf;

/// What the tokens stand for.
pub(super) struct Tokens<'a> {
    pub(super) laptop: &'a Laptop,
    pub(super) target: &'a Target,
}

impl Tokens<'_> {
    /// Expands a file name.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let name = self.variables(name)?;
        let text = self.text(&name)?;
        Ok(match text.strip_prefix('~') {
            Some("") => self.laptop.home.clone(),
            Some(rest) if rest.starts_with('/') => {
                self.laptop.home.join(rest.trim_start_matches('/'))
            }
            _ => PathBuf::from(text),
        })
    }

    /// Expands `%` tokens.
    pub(super) fn text(&self, text: &str) -> Result<String, Error> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            if character == '%' {
                expanded.push_str(&self.token(rest.next())?);
            } else {
                expanded.push(character);
            }
        }
        Ok(expanded)
    }

    fn token(&self, token: Option<char>) -> Result<String, Error> {
        let target = self.target;
        Ok(match token {
            Some('%') => "%".into(),
            Some('d') => self.laptop.home.display().to_string(),
            Some('h') => target.address.clone(),
            Some('i') => rustix::process::getuid().as_raw().to_string(),
            Some('k') => target
                .host_key_alias
                .clone()
                .unwrap_or_else(|| target.address.clone()),
            Some('l') => local_name(),
            Some('L') => local_name()
                .split('.')
                .next()
                .unwrap_or_default()
                .to_owned(),
            Some('n') => target.host.clone(),
            Some('p') => target.port.to_string(),
            Some('r') => target.user.clone(),
            Some('u') => self.laptop.user.clone(),
            Some(other) => {
                return Err(self.unusable(format!(
                    "`%{}` is not a token that push knows",
                    other.escape_default()
                )));
            }
            None => return Err(self.unusable("a value ends in a single `%`".into())),
        })
    }

    fn variables(&self, text: &str) -> Result<String, Error> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, tail)) = after.split_once('}') else {
                return Err(self.unusable("a `${` is not closed".into()));
            };
            let value = std::env::var(name).map_err(|_| {
                self.unusable(format!("the variable {} is not set", name.escape_default()))
            })?;
            expanded.push_str(before);
            expanded.push_str(&value);
            rest = tail;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    fn unusable(&self, reason: String) -> Error {
        Error::Config {
            host: self.target.host.clone(),
            reason,
        }
    }
}

fn local_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
