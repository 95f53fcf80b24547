//! Certificates that an authority gives to the sites of an environment: `tls = "auto"`.

use std::collections::BTreeSet;

use push_wire::certificate::{Certificate, CertificateError, NAMES_MAX};
use push_wire::firewall::Protocol;

use super::{App, Authority, Fleet, Host, ServerName, Tls};
use crate::name::HostName;

/// The port at which an authority asks for the answers to its challenges (RFC 8555, 8.3).
pub const CHALLENGE_PORT: u16 = 80;

/// Why a site cannot have a certificate of an authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCertificate {
    /// The inventory names none.
    #[error("nobody is declared who gives certificates")]
    NoAuthority,
    /// `push bootstrap` does not prepare the host for it.
    #[error("{0} carries the site and is not among the hosts of [bootstrap]")]
    NotPrepared(HostName),
    /// A name that cannot be proved over HTTP.
    #[error("{name}: {error}")]
    Name {
        /// The name.
        name: ServerName,
        /// Why not.
        error: CertificateError,
    },
    /// More names than a certificate has.
    #[error("a certificate has at most {NAMES_MAX} names, and the site has {0}")]
    TooMany(usize),
    /// Authorities do not come through.
    #[error("an authority asks at port 80, which [firewall] does not let in on {0}")]
    Shut(HostName),
}

impl NoCertificate {
    /// What to do next.
    pub fn help(&self) -> &'static str {
        match self {
            Self::NoAuthority => {
                "[bootstrap.tls] with email = \"ops@example.com\" and terms = \"agreed\" declares Let's Encrypt"
            }
            Self::NotPrepared(_) => {
                "add it to `on` under [bootstrap], or bring a certificate: tls = { certificate = …, key = … }"
            }
            Self::Name { .. } => {
                "name each host in server_name, or bring a certificate: tls = { certificate = …, key = … }"
            }
            Self::TooMany(_) => "split the site into several apps",
            Self::Shut(_) => "add \"http\" to `allow` under [firewall]",
        }
    }
}

impl Fleet {
    /// The certificate that an authority gives for the site of an app on a host; `None` where the site
    /// wants none.
    pub fn certificate(
        &self,
        host: &Host,
        app: &App,
    ) -> Result<Option<Certificate>, NoCertificate> {
        let Some(site) = &app.site else {
            return Ok(None);
        };
        if site.tls != Some(Tls::Automatic) {
            return Ok(None);
        }
        let authority = self.authority(host)?;
        let scope = self.trial_scope(host, app);
        // A text that cannot be rendered was told of where it stands.
        let names = site.server_names.iter();
        let names = names.filter_map(|name| name.resolve(&scope).ok());
        let mut proved = BTreeSet::new();
        for name in names {
            let found = name.as_str().parse();
            proved.insert(found.map_err(|error| NoCertificate::Name { name, error })?);
        }
        if proved.len() > NAMES_MAX {
            return Err(NoCertificate::TooMany(proved.len()));
        }
        if self.is_shut(host) {
            return Err(NoCertificate::Shut(host.name.clone()));
        }
        Ok(Some(Certificate {
            app: app.name.clone(),
            names: proved,
            endpoint: authority.endpoint.clone(),
            email: authority.email.clone(),
        }))
    }

    /// The certificates that an authority gives to a host's sites.
    pub fn certificates(&self, host: &Host) -> Result<BTreeSet<Certificate>, NoCertificate> {
        let mut all = BTreeSet::new();
        for app in self.apps_on(&host.name) {
            all.extend(self.certificate(host, app)?);
        }
        Ok(all)
    }

    fn authority(&self, host: &Host) -> Result<&Authority, NoCertificate> {
        let bootstrap = self.bootstrap.as_ref();
        let authority = bootstrap.and_then(|bootstrap| Some((bootstrap, bootstrap.tls.as_ref()?)));
        let (bootstrap, authority) = authority.ok_or(NoCertificate::NoAuthority)?;
        if !bootstrap.on.contains(&host.name) {
            return Err(NoCertificate::NotPrepared(host.name.clone()));
        }
        Ok(authority)
    }

    /// The firewall of bootstrap lets in what the authority needs; one without it may not.
    fn is_shut(&self, host: &Host) -> bool {
        let cared = self.bootstrap.as_ref();
        let is_open = cared.is_some_and(|bootstrap| bootstrap.firewall.is_taken());
        let declared = self.firewall.as_ref().and_then(|all| all.of(&host.name));
        !is_open
            && declared.is_some_and(|firewall| {
                let lets_in = |rule: &push_wire::firewall::Rule| {
                    rule.protocol == Protocol::Tcp
                        && rule.from.is_empty()
                        && rule.ports.contains(CHALLENGE_PORT)
                };
                !firewall.allow.iter().any(lets_in)
            })
    }
}
