//! What a host has that is not as it was pushed, and whose it is.

use std::collections::BTreeSet;

use push_wire::manifest::{HOST_SLICE, Manifest, Slice};
use serde::Serialize;

use crate::name::{AppName, HostPath, ProjectName, UnitName};

/// What is not as it was pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// What the host says of it. Untrusted text.
    pub lines: Vec<String>,
    /// The slices that declare something of it, as far as the lines tell.
    pub projects: BTreeSet<ProjectName>,
}

impl Drift {
    /// The drift that a host with this generation tells of.
    pub fn of(manifest: &Manifest, lines: Vec<String>) -> Self {
        let told = |slice: &Slice| lines.iter().any(|line| is_about(line, slice));
        let projects = manifest.all().filter(|(_, slice)| told(slice));
        Self {
            projects: projects.map(|(project, _)| project.clone()).collect(),
            lines,
        }
    }

    /// Whether all is as it was pushed.
    pub fn is_none(&self) -> bool {
        self.lines.is_empty()
    }

    /// What is typed to have it as it was pushed.
    pub fn cure(&self, environment: &str, host: &str) -> String {
        let is_host = |project: &&ProjectName| project.as_str() == HOST_SLICE;
        let is_bootstraps = self.projects.iter().any(|project| is_host(&project));
        let is_projects = self.projects.iter().any(|project| !is_host(&project));
        let deploy = format!(
            "`push {environment} -l {host} --again` applies again what its project declares there"
        );
        let bootstrap = format!(
            "`push bootstrap {environment} -l {host} --again` applies again what its bootstrap declares"
        );
        match (is_bootstraps, is_projects) {
            (true, false) => bootstrap,
            (true, true) => format!("{bootstrap}, and {deploy}"),
            (false, true | false) => deploy,
        }
    }
}

fn is_about(line: &str, slice: &Slice) -> bool {
    let mut names = slice.files.keys().map(HostPath::as_str);
    let mut units = slice.units.keys().map(UnitName::as_str);
    let mut apps = slice.apps.keys().map(AppName::as_str);
    let of_app = |app: &str| {
        let release = line.contains(&format!("/srv/{app}/"));
        release || line.contains(&format!("/{app}.conf")) || line.contains(&format!(" of {app} "))
    };
    names.any(|name| line.contains(name))
        || units.any(|name| line.contains(name))
        || apps.any(of_app)
        || (slice.firewall.is_some() && line.contains("firewall"))
        || (!slice.sites.is_empty() && line.starts_with("nginx "))
}

#[cfg(test)]
mod tests {
    use push_wire::firewall::Firewall;
    use push_wire::manifest::{Placed, Provenance};

    use super::*;
    use crate::desired::sample::Sample;

    #[test]
    fn each_difference_is_put_right_by_whoever_declares_it() {
        let sample = Sample::new("[apps.api]\non = \"web1\"\nsource = \"app\"\n");
        let hosts = Slice {
            firewall: Some(Firewall::default()),
            ..Slice::default()
        };
        let placed = |slice| Placed {
            slice,
            provenance: Provenance::default(),
        };
        let shop = sample.desired();
        let manifest = Manifest {
            slices: [
                (shop.project.clone(), placed(shop.slice)),
                (HOST_SLICE.parse().unwrap(), placed(hosts)),
            ]
            .into(),
            ..Manifest::empty()
        };
        let cure = |line: &str| {
            let drift = Drift::of(&manifest, vec![line.to_owned()]);
            drift.cure("prod", "web1")
        };
        let firewall = cure("the firewall is not loaded: there is no table inet push");
        assert!(
            firewall.starts_with("`push bootstrap prod -l web1 --again`"),
            "{firewall}"
        );
        for line in ["/srv/api/current is missing", "of nobody"] {
            let project = cure(line);
            assert!(project.starts_with("`push prod -l web1 --again`"), "{line}");
            assert!(!project.contains("bootstrap"), "{line}");
        }
        let both = Drift::of(
            &manifest,
            vec!["firewall".into(), "/srv/api/current".into()],
        );
        let both = both.cure("prod", "web1");
        assert!(both.contains("bootstrap prod") && both.contains("`push prod"));
    }
}
