//! What a host has that is not as it was pushed, and whose it is.

use std::collections::BTreeMap;

use push_wire::manifest::{HOST_SLICE, Manifest, Slice};
use serde::Serialize;

use crate::name::{AppName, HostPath, ProjectName};
use crate::visible::escape;

/// How much of what a host says a message shows, in bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// How the host says that something else is in the place of what was pushed.
const IN_THE_WAY: &str = " does not lead to what is declared";

/// What begins how the host says that a push would be refused, and what to do first.
const FIRST: [&str; 2] = [" is not as push left it: ", ", and the journal says that "];

/// What is not as it was pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// What the host says of it. Untrusted text.
    pub lines: Vec<String>,
    /// The projects that declare something of it, as far as the lines tell, with the environments that pushed
    /// them last. Untrusted text.
    pub projects: BTreeMap<ProjectName, String>,
}

impl Drift {
    /// The drift that a host with this generation tells of.
    pub fn of(manifest: &Manifest, lines: Vec<String>) -> Self {
        if lines.is_empty() {
            return Self::default();
        }
        let slices = manifest.slices.iter();
        let all = slices.map(|(project, placed)| {
            let environment = placed.provenance.environment.clone();
            (project.clone(), &placed.slice, environment)
        });
        let (told, others): (Vec<_>, Vec<_>) =
            all.partition(|(_, slice, _)| lines.iter().any(|line| is_about(line, slice)));
        // What belongs to none is put right by any.
        let chosen = if told.is_empty() { others } else { told };
        let projects = chosen.into_iter();
        Self {
            projects: projects
                .map(|(project, _, environment)| (project, environment))
                .collect(),
            lines,
        }
    }

    /// The same without what a project declares that is applied again anyway.
    #[must_use]
    pub fn without(mut self, project: &ProjectName) -> Self {
        self.projects.remove(project);
        self
    }

    /// Whether all is as it was pushed.
    pub fn is_none(&self) -> bool {
        self.lines.is_empty()
    }

    /// What is done to have it as it was pushed, for whoever pushes `own` to a host of an environment.
    pub fn cure(&self, own: &str, (environment, host): (&str, &str)) -> String {
        let mut all = Vec::new();
        if self.lines.iter().any(|line| line.ends_with(IN_THE_WAY)) {
            all.push(
                "move away what is in the place of another thing, or declare what it holds: until then \
                 pushes refuse it"
                    .to_owned(),
            );
        }
        if self
            .lines
            .iter()
            .any(|line| FIRST.iter().any(|words| line.contains(words)))
        {
            all.push("do what is said above: until then pushes refuse it".to_owned());
        }
        let here = format!("{own}/{environment}");
        for (project, theirs) in &self.projects {
            let is_ours = project.as_str() == own || *theirs == here;
            all.push(if project.as_str() == HOST_SLICE && is_ours {
                format!(
                    "`push bootstrap {environment} -l {host} --again` applies again what its bootstrap declares"
                )
            } else if is_ours {
                format!(
                    "`push {environment} -l {host} --again` applies again what {own} declares there"
                )
            } else {
                let theirs = escape(theirs.as_bytes(), SHOWN_BYTES_MAX);
                if project.as_str() == HOST_SLICE {
                    format!("with `--again`, a bootstrap of {theirs} applies again what it declares")
                } else {
                    format!("with `--again`, a push of {project} to {theirs} applies again what it declares")
                }
            });
        }
        all.join("; ")
    }
}

fn is_about(line: &str, slice: &Slice) -> bool {
    let mut words =
        line.split(|sign: char| !sign.is_ascii_alphanumeric() && !"/@:+._-".contains(sign));
    let of_app = |app: &AppName| line.ends_with(&format!(" of {app} is not opened"));
    words.any(|word| is_name_of(word, slice))
        || slice.apps.keys().any(of_app)
        || (slice.firewall.is_some() && line.starts_with("the firewall "))
        || (!slice.sites.is_empty() && line.starts_with("nginx "))
}

/// Whether a word is the path or the name of something that a slice declares.
fn is_name_of(word: &str, slice: &Slice) -> bool {
    let last = word.rsplit('/').next().unwrap_or(word);
    let is_path = |path: &HostPath| word.ends_with(path.as_str());
    let is_apps = |app: &AppName| {
        word.contains(&format!("/srv/{app}/"))
            || word.ends_with(&format!("nginx/{app}.conf"))
            || word.contains(&format!("secrets/{app}/"))
    };
    slice.units.contains_key(last)
        || slice.files.keys().any(is_path)
        || slice.apps.keys().any(is_apps)
}

#[cfg(test)]
mod tests {
    use push_wire::firewall::Firewall;
    use push_wire::manifest::{Placed, Provenance};

    use super::*;
    use crate::desired::sample::Sample;

    #[test]
    fn where_all_is_as_it_was_pushed_nothing_is_to_be_typed() {
        let mut sample = Sample::new("[apps.api]\non = \"web1\"\nsource = \"app\"\n");
        let desired = sample.desired();
        sample.settle(&desired);
        let drift = Drift::of(&sample.hello.manifest, Vec::new());
        assert!(drift.is_none());
        assert_eq!(drift.cure("shop", ("prod", "web1")), "");
    }

    #[test]
    fn a_bootstrap_of_another_environment_is_named_by_it() {
        let elsewhere = Drift {
            lines: vec!["the firewall is not loaded".to_owned()],
            projects: [(HOST_SLICE.parse().unwrap(), "blog/live".to_owned())].into(),
        };
        let told = elsewhere.cure("shop", ("prod", "web1"));
        assert!(told.contains("a bootstrap of blog/live"), "{told}");
        assert_eq!(
            elsewhere
                .without(&HOST_SLICE.parse().unwrap())
                .cure("shop", ("prod", "web1")),
            ""
        );
    }

    #[test]
    fn each_difference_is_put_right_by_whoever_declares_it() {
        let sample = Sample::new(
            "[apps.api]\non = \"web1\"\nsource = \"app\"\n[apps.api.service]\nexec = \"/bin/true\"\n",
        );
        let hosts = Slice {
            firewall: Some(Firewall::default()),
            ..Slice::default()
        };
        let placed = |slice, environment: &str| Placed {
            slice,
            provenance: Provenance {
                environment: environment.to_owned(),
                ..Provenance::default()
            },
        };
        let mut blogs = Slice::default();
        let unit = sample.desired().slice.units.into_values().next().unwrap();
        blogs.units.insert("my-api.service".parse().unwrap(), unit);
        let shop = sample.desired();
        let own = shop.project.clone();
        let manifest = Manifest {
            slices: [
                (shop.project.clone(), placed(shop.slice, "prod")),
                (
                    HOST_SLICE.parse().unwrap(),
                    placed(hosts, &format!("{own}/prod")),
                ),
                ("blog".parse().unwrap(), placed(blogs, "live")),
            ]
            .into(),
            ..Manifest::empty()
        };
        let cure = |line: &str| {
            let drift = Drift::of(&manifest, vec![line.to_owned()]);
            drift.cure(own.as_str(), ("prod", "web1"))
        };
        let (deploy, bootstrap) = (
            "`push prod -l web1 --again`",
            "`push bootstrap prod -l web1",
        );
        let firewall = cure("the firewall is not loaded: there is no table inet push");
        assert!(firewall.starts_with(bootstrap), "{firewall}");
        let drift = Drift::of(&manifest, vec!["the firewall is not loaded".to_owned()]);
        assert!(
            drift
                .cure(HOST_SLICE, ("prod", "web1"))
                .starts_with(bootstrap)
        );
        let release = cure("/srv/api/current is missing");
        assert!(release.starts_with(deploy) && !release.contains("bootstrap"));
        // Another project's, although a name of ours is in it.
        let theirs = cure("my-api.service does not run: inactive");
        assert_eq!(
            theirs,
            "with `--again`, a push of blog to live applies again what it declares"
        );
        let nobodys = cure("push-recover.service is not enabled: nothing recovers at boot");
        assert!(nobodys.contains(deploy) && nobodys.contains(bootstrap));
        let moved = cure("/srv/api/current does not lead to what is declared");
        assert!(
            moved.starts_with("move away") && moved.contains(deploy),
            "{moved}"
        );
    }
}
