//! The slice of one host while it is being made.

use std::collections::BTreeMap;

use push_wire::digest::Digest;
use push_wire::encode::EncodeError;
use push_wire::manifest::Slice;
use push_wire::message::Bytes;
use serde::Serialize;

use super::{DesiredError, Input};
use crate::inventory::App;
use crate::name::ReleaseId;
use crate::template::{Scope, TemplateError, TemplateName, Templated, Typed};

/// What has been made so far, and what it is made from.
pub(super) struct Making<'a> {
    pub input: &'a Input<'a>,
    pub slice: Slice,
    pub texts: BTreeMap<Digest, Bytes>,
    pub directives: BTreeMap<String, u32>,
}

/// One app on this host, with what its texts may name.
pub(super) struct OnHost<'a> {
    pub app: &'a App,
    pub release: ReleaseId,
    pub scope: Scope,
}

impl<'a> Making<'a> {
    pub fn new(input: &'a Input<'a>) -> Self {
        Self {
            input,
            slice: Slice::default(),
            texts: BTreeMap::new(),
            directives: BTreeMap::new(),
        }
    }

    /// Keeps a text, and gives its digest.
    pub fn text(&mut self, content: impl Into<Vec<u8>>) -> Digest {
        let content = content.into();
        let digest = Digest::of(&content);
        self.texts.insert(digest, Bytes(content));
        digest
    }

    /// Notes that a directive is used which systemd knows only since a version.
    pub fn needs_systemd(&mut self, directive: &str, version: u32) {
        self.directives.insert(directive.to_owned(), version);
    }

    /// Renders a template file.
    pub fn render(
        &self,
        what: &str,
        template: &TemplateName,
        context: &impl Serialize,
    ) -> Result<String, DesiredError> {
        self.input
            .engine
            .render(template, context)
            .map_err(self.template_error(what))
    }

    /// The value of a text of the inventory.
    pub fn resolve<T: Typed>(
        &self,
        what: &str,
        text: &Templated<T>,
        scope: &Scope,
    ) -> Result<T, DesiredError> {
        text.resolve(scope).map_err(self.template_error(what))
    }

    pub fn template_error(&self, what: &str) -> impl Fn(TemplateError) -> DesiredError {
        let host = self.input.host.name.clone();
        let what = what.to_owned();
        move |error| DesiredError::Template {
            host: host.clone(),
            what: what.clone(),
            error: Box::new(error),
        }
    }

    pub fn encode_error(&self, what: &str) -> impl Fn(EncodeError) -> DesiredError {
        let host = self.input.host.name.clone();
        let what = what.to_owned();
        move |error| DesiredError::Value {
            host: host.clone(),
            what: what.clone(),
            why: error.to_string(),
        }
    }

    pub fn value_error(&self, what: &str, why: impl Into<String>) -> DesiredError {
        DesiredError::Value {
            host: self.input.host.name.clone(),
            what: what.to_owned(),
            why: why.into(),
        }
    }
}
