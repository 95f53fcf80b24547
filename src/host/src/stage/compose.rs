//! The manifest that a slice makes on this host, or why it may not be: pure.
//!
//! Must not look at the disk. What is refused here as a breach of the protocol is what an honest
//! laptop has refused already; a host does not rely on that.

use std::collections::BTreeSet;

use push_wire::firewall;
use push_wire::ground;
use push_wire::manifest::{FORMAT, Manifest, Placed, Provenance, Slice};
use push_wire::message::Refusal;
use push_wire::name::{GenerationId, ProjectName, UnitName};

/// The permission bits that a file may have: no set-id, no sticky.
const MODE_MAX: u32 = 0o777;

/// A slice as it arrives, whoever thought of it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose slice it is.
    pub project: ProjectName,
    /// The generation that the plan was made against.
    pub base: GenerationId,
    /// What is to be declared.
    pub slice: Slice,
    /// The generation whose slice this is, if an operator goes back.
    pub restores: Option<GenerationId>,
    /// Who asks.
    pub provenance: Provenance,
    /// The port that the operator came in by.
    pub way_in: u16,
}

/// The manifest of the generation that `wanted` makes after `current`.
pub fn compose(
    current: &Manifest,
    highest: GenerationId,
    wanted: Wanted,
    ssh_ports: &BTreeSet<u16>,
) -> Result<Manifest, Refusal> {
    if current.generation != wanted.base {
        return Err(Refusal::Stale {
            expected: wanted.base,
            found: current.generation,
        });
    }
    sound(&wanted.slice).map_err(|why| Refusal::Protocol { why })?;
    let claims = current.claims(&wanted.project, &wanted.slice);
    if !claims.is_empty() {
        return Err(Refusal::Claimed(claims));
    }
    let ways_in = firewall::ways_in(ssh_ports, wanted.way_in);
    let mut slices = current.slices.clone();
    if wanted.slice == Slice::default() {
        slices.remove(&wanted.project);
    } else {
        let placed = Placed {
            slice: wanted.slice,
            provenance: wanted.provenance,
        };
        slices.insert(wanted.project, placed);
    }
    let manifest = Manifest {
        format: FORMAT,
        generation: GenerationId(highest.0 + 1),
        restores: wanted.restores,
        ways_in,
        slices,
    };
    nested(&manifest).map_err(|why| Refusal::Protocol { why })?;
    Ok(manifest)
}

/// Whether two manifests declare the same, whatever their numbers, times and runs of push.
pub fn is_same(one: &Manifest, other: &Manifest) -> bool {
    one.restores == other.restores
        && one.ways_in == other.ways_in
        && one.slices.keys().eq(other.slices.keys())
        && one
            .slices
            .values()
            .zip(other.slices.values())
            .all(|(one, other)| {
                let provenance = Provenance {
                    at_unix_s: other.provenance.at_unix_s,
                    push: other.provenance.push.clone(),
                    ..one.provenance.clone()
                };
                one.slice == other.slice && provenance == other.provenance
            })
}

fn sound(slice: &Slice) -> Result<(), String> {
    let known = |app| slice.apps.contains_key(app);
    for (name, unit) in &slice.units {
        if name.is_the_systems() {
            return Err(format!("the unit {name} is not a project's to declare"));
        }
        if !known(&unit.app) {
            return Err(format!(
                "the unit {name} belongs to {}, which the slice has not",
                unit.app
            ));
        }
    }
    let sites = slice.sites.keys().chain(slice.answers.keys());
    for app in sites.chain(slice.secrets.keys()) {
        if !known(app) {
            return Err(format!(
                "a site or secret belongs to {app}, which the slice has not"
            ));
        }
    }
    for (name, app) in &slice.apps {
        if let Some(inside) = ground::nested(&app.shared) {
            return Err(format!(
                "the shared folder {inside} of {name} is inside another one"
            ));
        }
    }
    for (path, file) in &slice.files {
        if file.mode > MODE_MAX {
            return Err(format!(
                "{path} has the mode {:o}, which push does not set",
                file.mode
            ));
        }
        if ground::taken(path).is_some() {
            return Err(format!("{path} is not a project's to declare"));
        }
    }
    Ok(())
}

/// A file inside another one, or at the place of a unit, could not be both.
fn nested(manifest: &Manifest) -> Result<(), String> {
    let files = manifest.files();
    let paths = files.keys().map(|path| path.as_str()).collect();
    for path in files.keys() {
        if let Some(other) = ground::inside_of(path, &paths) {
            return Err(format!("{path} is inside of {other}, which is a file"));
        }
        let unit = path.as_str().strip_prefix("/etc/systemd/system/");
        let unit = unit.and_then(|name| name.parse::<UnitName>().ok());
        if unit.is_some_and(|unit| manifest.units().contains_key(&unit)) {
            return Err(format!("{path} is declared as a file and as a unit"));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use push_wire::digest::Digest;
    use push_wire::manifest::{App, File, OnChange, OnRelease, Runs, Unit};
    use push_wire::name::UserName;
    use push_wire::tree::Tree;

    pub(crate) fn app(release: &str, tree: &Tree) -> App {
        App {
            release: release.parse().unwrap(),
            tree: tree.digest(),
            size: tree.size(),
            user: "api".parse().unwrap(),
            shared: BTreeSet::new(),
            ports: [8080].into(),
            keep_releases: 5,
            health: None,
        }
    }

    pub(crate) fn unit(text: &str) -> Unit {
        Unit {
            digest: Digest::of(text),
            app: "api".parse().unwrap(),
            wanted_by: BTreeSet::new(),
            runs: Runs::Always,
            on_release: OnRelease::Restart,
        }
    }

    pub(crate) fn file(text: &str) -> File {
        File {
            digest: Digest::of(text),
            owner: UserName::root(),
            group: UserName::root(),
            mode: 0o644,
            on_change: OnChange::Nothing,
        }
    }

    pub(crate) fn manifest(slice: Slice) -> Manifest {
        made(
            &Manifest::empty(),
            GenerationId::NONE,
            wanted("shop", slice),
        )
        .unwrap()
    }

    pub(crate) fn wanted(project: &str, slice: Slice) -> Wanted {
        Wanted {
            project: project.parse().unwrap(),
            base: GenerationId::NONE,
            slice,
            restores: None,
            provenance: Provenance::default(),
            way_in: 2222,
        }
    }

    fn made(
        current: &Manifest,
        highest: GenerationId,
        wanted: Wanted,
    ) -> Result<Manifest, Refusal> {
        compose(current, highest, wanted, &[22].into())
    }

    fn slice() -> Slice {
        let mut slice = Slice::default();
        slice
            .apps
            .insert("api".parse().unwrap(), app("r1", &Tree::default()));
        slice
            .units
            .insert("api.service".parse().unwrap(), unit("x"));
        slice
    }

    fn why(slice: Slice) -> String {
        match made(
            &Manifest::empty(),
            GenerationId::NONE,
            wanted("shop", slice),
        ) {
            Err(Refusal::Protocol { why }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_push_replaces_its_own_slice_only_and_takes_the_next_number() {
        let first = made(
            &Manifest::empty(),
            GenerationId::NONE,
            wanted("shop", slice()),
        )
        .unwrap();
        assert_eq!(first.generation, GenerationId(1));
        let mut other = Slice::default();
        other.files.insert("/etc/motd".parse().unwrap(), file("hi"));
        let mut asked = wanted("blog", other);
        asked.base = GenerationId(1);
        let second = made(&first, GenerationId(7), asked).unwrap();
        assert_eq!(second.generation, GenerationId(8));
        assert_eq!(second.slices.len(), 2);
        let mut nothing = wanted("shop", Slice::default());
        nothing.base = GenerationId(8);
        let third = made(&second, GenerationId(8), nothing).unwrap();
        assert!(third.slice(&"shop".parse().unwrap()).is_none());
        assert!(is_same(&third, &third.clone()) && !is_same(&third, &second));
    }

    #[test]
    fn a_plan_made_against_another_generation_is_stale() {
        let mut asked = wanted("shop", slice());
        asked.base = GenerationId(4);
        let refused = made(&Manifest::empty(), GenerationId(5), asked);
        let expected = Refusal::Stale {
            expected: GenerationId(4),
            found: GenerationId::NONE,
        };
        assert_eq!(refused, Err(expected));
    }

    #[test]
    fn what_another_slice_has_is_refused_naming_both() {
        let first = made(
            &Manifest::empty(),
            GenerationId::NONE,
            wanted("shop", slice()),
        )
        .unwrap();
        let mut asked = wanted("blog", slice());
        asked.base = GenerationId(1);
        let Err(Refusal::Claimed(claims)) = made(&first, GenerationId(1), asked) else {
            panic!("it was let through");
        };
        let what: Vec<&str> = claims.iter().map(|claim| claim.what.as_str()).collect();
        assert_eq!(what, ["app api", "port 8080", "unit api.service"]);
        assert_eq!(
            (claims[0].holder.as_str(), claims[0].claimant.as_str()),
            ("shop", "blog")
        );
    }

    #[test]
    fn files_and_units_that_are_not_a_projects_are_refused() {
        for path in [
            "/etc/push/current",
            "/var/lib/push/journal",
            "/srv/api/current",
            "/proc/sys/kernel/core_pattern",
            "/etc/nginx/conf.d/push.conf",
            "/etc/systemd/system/push-recover.service",
            "/etc/shadow",
        ] {
            let mut slice = slice();
            slice.files.insert(path.parse().unwrap(), file("x"));
            assert!(why(slice).contains("not a project's"), "{path}");
        }
        for name in [
            "ssh.service",
            "push-transaction.service",
            "systemd-networkd.service",
        ] {
            let mut slice = slice();
            slice.units.insert(name.parse().unwrap(), unit("x"));
            assert!(why(slice).contains("not a project's"), "{name}");
        }
    }

    #[test]
    fn what_cannot_stand_on_one_disk_together_is_refused() {
        let mut both = slice();
        both.files.insert(
            "/etc/systemd/system/api.service".parse().unwrap(),
            file("x"),
        );
        assert!(why(both).contains("as a file and as a unit"));
        let mut inside = slice();
        inside.files.insert("/etc/x".parse().unwrap(), file("x"));
        inside.files.insert("/etc/x/y".parse().unwrap(), file("x"));
        assert!(why(inside).contains("is inside of /etc/x"));
        let mut shared = slice();
        let app = shared.apps.values_mut().next().unwrap();
        app.shared = ["data".parse().unwrap(), "data/x".parse().unwrap()].into();
        assert!(why(shared).contains("inside another one"));
        let mut setuid = slice();
        let mut program = file("x");
        program.mode = 0o4755;
        setuid
            .files
            .insert("/usr/local/bin/x".parse().unwrap(), program);
        assert!(why(setuid).contains("4755"));
    }

    #[test]
    fn what_belongs_to_no_app_of_the_slice_is_refused() {
        let mut lost = slice();
        lost.apps.clear();
        assert!(why(lost).contains("which the slice has not"));
    }
}
