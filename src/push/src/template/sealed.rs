//! Secrets in a template: `{{ secret_value("name") }}` leaves a mark, and the rendered text is cut at the
//! marks. No value passes through the engine, so none can be tested, changed or repeated by a template.

use std::collections::BTreeSet;

use minijinja::{Environment, Error, ErrorKind, State};
use serde::Serialize;

use super::TemplateError;
use super::error::Place;

/// The function's name.
const FUNCTION: &str = "secret_value";

/// Under this name the context says which secrets may be named; no template can spell it.
const ALLOWED: &str = "the secrets";

/// What a mark is known by, whatever a filter has done to the letters around it.
const MARK: &str = "5f1e93c07b2d4a68";

/// Around a mark stands what every encoder, and `trim`, would have to change.
const OPEN: &str = " \u{1}\"'\\$";
const CLOSE: &str = "$\\'\"\u{1} ";

/// A piece of a rendered text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fragment {
    /// Text.
    Text(String),
    /// Here stands this secret.
    Secret(String),
}

/// A context, with the secrets that may be named.
#[derive(Serialize)]
pub(super) struct WithSecrets<'a, C> {
    #[serde(flatten)]
    pub context: &'a C,
    #[serde(rename = "the secrets")]
    pub allowed: &'a BTreeSet<String>,
}

/// Makes the function known.
pub(super) fn register(environment: &mut Environment<'static>) {
    environment.add_function(FUNCTION, |state: &State<'_, '_>, name: String| {
        let refused = |why: String| Error::new(ErrorKind::InvalidOperation, why);
        let Some(allowed) = state.lookup(ALLOWED) else {
            return Err(refused(format!(
                "{FUNCTION} can stand only in the template of a secret: secrets = [{{ name = …, as = \"file\", template = … }}]"
            )));
        };
        let is_allowed = allowed
            .try_iter()
            .is_ok_and(|mut all| all.any(|one| one.as_str() == Some(name.as_str())));
        if !is_allowed {
            return Err(refused(format!(
                "write the secret as a text between quotes: {FUNCTION}(\"name\")"
            )));
        }
        Ok(format!("{OPEN}{MARK}:{name}:{MARK}{CLOSE}"))
    });
}

/// The names between quotes that a template's text gives to the function.
pub(super) fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for after in text.split(FUNCTION).skip(1) {
        let Some(inside) = after.trim_start().strip_prefix('(') else {
            continue;
        };
        let inside = inside.trim_start();
        let quote = inside.chars().next().filter(|c| matches!(c, '"' | '\''));
        if let Some(quote) = quote
            && let Some(name) = inside[1..].split(quote).next()
        {
            names.insert(name.to_owned());
        }
    }
    names
}

/// Cuts a rendered text at the marks.
pub(super) fn cut(text: &str, place: Place) -> Result<Vec<Fragment>, TemplateError> {
    let (open, close) = (format!("{OPEN}{MARK}:"), format!(":{MARK}{CLOSE}"));
    let mut fragments = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(open.as_str()) {
        let Some((name, after)) = after.split_once(close.as_str()) else {
            break;
        };
        fragments.push(Fragment::Text(before.to_owned()));
        fragments.push(Fragment::Secret(name.to_owned()));
        rest = after;
    }
    fragments.push(Fragment::Text(rest.to_owned()));
    fragments.retain(|fragment| *fragment != Fragment::Text(String::new()));
    let is_changed = |fragment: &Fragment| match fragment {
        Fragment::Text(text) | Fragment::Secret(text) => text.to_ascii_lowercase().contains(MARK),
    };
    if fragments.iter().any(is_changed) {
        return Err(TemplateError::Render {
            place,
            why: "a secret cannot go through a filter: its value is not known here".to_owned(),
        });
    }
    Ok(fragments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Engine, TemplateName};

    fn rendered(text: &str) -> Result<Vec<Fragment>, TemplateError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), text).unwrap();
        let engine = Engine::open(folder.path()).unwrap();
        let name: TemplateName = "x".parse().unwrap();
        let allowed = engine.secrets_named(&name).unwrap();
        engine.render_fragments(
            &name,
            &serde_json::json!({"host": {"name": "web1"}}),
            &allowed,
        )
    }

    #[test]
    fn a_template_is_cut_where_its_secrets_stand() {
        let text = |text: &str| Fragment::Text(text.to_owned());
        let secret = |name: &str| Fragment::Secret(name.to_owned());
        assert_eq!(
            rendered("a {{ host.name }}:{{ secret_value(\"x.y\") }}{{secret_value( 'z' )}}\n")
                .unwrap(),
            [text("a web1:"), secret("x.y"), secret("z"), text("\n")]
        );
        assert_eq!(rendered("plain").unwrap(), [text("plain")]);
    }

    #[test]
    fn a_value_goes_through_no_filter_and_names_stand_in_quotes() {
        for wrong in [
            "{{ secret_value('x') | upper }}",
            "{{ secret_value('x') | systemd_word }}",
            "{{ secret_value('x') | systemd_text }}",
            "{{ secret_value('x') | nginx_word }}",
            "{{ secret_value('x') | tojson }}",
            "{{ secret_value('x') | replace(':', '') }}",
            "{{ secret_value('x') | trim }}",
            "{{ secret_value('x') | reverse }}",
            "{{ secret_value(host.name) }}",
            "{% set n = 'y' %}{{ secret_value(n) }}{# secret_value('x') #}",
        ] {
            let found = rendered(wrong);
            // What only loses the mark puts no value anywhere; what keeps a part of it would be taken for a value.
            let is_text = |one: &Fragment| match one {
                Fragment::Text(text) => !text.to_ascii_lowercase().contains(&MARK[..4]),
                Fragment::Secret(_) => false,
            };
            let harmless = found.as_ref().is_ok_and(|all| all.iter().all(is_text));
            assert!(found.is_err() || harmless, "{wrong}: {found:?}");
        }
        let plain = Engine::built_in();
        assert!(
            plain
                .secrets_named(&"systemd/service".parse().unwrap())
                .unwrap()
                .is_empty()
        );
    }
}
