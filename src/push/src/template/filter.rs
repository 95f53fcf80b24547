//! The filters that own templates write values with: each makes one value one word of its format,
//! whatever is in it, or refuses it. `Description={{ app.name | systemd_text }}`.

use minijinja::{Environment, Error, ErrorKind};
use push_wire::encode::{self, EncodeError};

/// Makes every filter known to `environment`.
pub(super) fn register(environment: &mut Environment<'static>) {
    environment.add_filter("systemd_word", one(encode::systemd_word));
    environment.add_filter("systemd_exec_word", one(encode::systemd_exec_word));
    environment.add_filter("systemd_text", one(encode::systemd_text));
    environment.add_filter("nginx_word", one(encode::nginx_word));
    environment.add_filter("systemd_environment", named(encode::systemd_environment));
    environment.add_filter(
        "environment_file_line",
        named(encode::environment_file_line),
    );
}

/// `{{ value | filter }}`
fn one(
    encode: fn(&str) -> Result<String, EncodeError>,
) -> impl Fn(String) -> Result<String, Error> + Send + Sync + 'static {
    move |value| encode(&value).map_err(|error| refused(&error))
}

/// `{{ value | filter("NAME") }}`
fn named(
    encode: fn(&str, &str) -> Result<String, EncodeError>,
) -> impl Fn(String, String) -> Result<String, Error> + Send + Sync + 'static {
    move |value, name| encode(&name, &value).map_err(|error| refused(&error))
}

fn refused(error: &EncodeError) -> Error {
    Error::new(ErrorKind::InvalidOperation, error.to_string())
}
