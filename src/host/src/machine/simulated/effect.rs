//! Which generation is in effect on a simulated host: code, units, nginx, firewall, secrets and
//! files, all of one, or a panic that names what is of another.

use std::collections::BTreeMap;
use std::path::Path;

use push_wire::manifest::{Manifest, Runs};
use push_wire::name::GenerationId;

use super::{SEAL, Simulated};
use crate::layout::Layout;
use crate::store::{self, links};

impl Simulated {
    /// The generation that everything belongs to, with nothing left behind; 0 for none.
    pub fn generation_in_effect(&self) -> u64 {
        let id = self.generation_served();
        let (layout, mut calm) = (Layout::new("/"), self.clone());
        calm.repair();
        check_leftovers(
            &calm,
            &layout,
            &store::current_manifest(&calm, &layout).unwrap(),
        );
        id
    }

    /// The generation that everything belongs to; links that lead nowhere may not be removed yet.
    pub fn generation_served(&self) -> u64 {
        let (layout, mut calm) = (Layout::new("/"), self.clone());
        calm.repair();
        let manifest = store::current_manifest(&calm, &layout).unwrap();
        store::verify(&calm, &layout, &manifest).unwrap();
        let id = manifest.generation;
        check_links(&calm, &layout, &manifest);
        check_units(&calm, &layout, &manifest);
        check_nginx(&calm, &layout, &manifest);
        assert_eq!(
            calm.services.table,
            manifest.nftables(),
            "the firewall is not that of {id}"
        );
        check_secrets(&calm, &layout, &manifest);
        for (name, app) in manifest.apps() {
            let code = calm
                .disk
                .read(&layout.app_current(name).join("code"))
                .unwrap();
            assert_eq!(
                code,
                app.release.as_str().as_bytes(),
                "the code is not that of {id}"
            );
        }
        id.0
    }
}

fn check_links(world: &Simulated, layout: &Layout, manifest: &Manifest) {
    for (place, link) in &links::links(layout, manifest) {
        let found = world.disk.read_link(place).unwrap();
        assert_eq!(
            found.as_ref(),
            Some(&link.target),
            "{} is not ours",
            place.display()
        );
    }
}

fn check_leftovers(world: &Simulated, layout: &Layout, manifest: &Manifest) {
    let declared = links::links(layout, manifest);
    for id in store::generations(world, layout).unwrap() {
        let other = store::manifest(world, layout, id).unwrap();
        for (place, link) in links::links(layout, &other) {
            let ours = world.disk.read_link(&place).unwrap() == Some(link.target);
            let stays = !declared.contains_key(&place) && ours;
            assert!(
                !stays,
                "{} stays although only {id} declares it",
                place.display()
            );
        }
    }
    let all = world.disk.list(&layout.push()).unwrap();
    assert!(
        !all.iter().any(|name| name.starts_with('.')),
        "left behind: {all:?}"
    );
}

fn check_units(world: &Simulated, layout: &Layout, manifest: &Manifest) {
    let id = manifest.generation;
    let secrets = plain_secrets(world, layout, manifest);
    let mut running = world.services.running.clone();
    for (name, unit) in manifest.units() {
        let text = read(world, &layout.generation(id).unit(name));
        assert_eq!(
            world.services.loaded.get(name.as_str()),
            Some(&text),
            "{name} as loaded"
        );
        let Some(found) = running.remove(name.as_str()) else {
            assert_eq!(unit.runs, Runs::OnDemand, "{name} of {id} does not run");
            continue;
        };
        assert_eq!(
            found.text, text,
            "{name} runs another text than that of {id}"
        );
        if text.contains("app=") {
            let expected = secrets.get(unit.app.as_str()).cloned().unwrap_or_default();
            assert_eq!(
                found.secrets, expected,
                "{name} read other secrets than those of {id}"
            );
        }
    }
    assert!(
        running.is_empty(),
        "running although {id} does not declare it: {:?}",
        running.keys()
    );
}

fn check_nginx(world: &Simulated, layout: &Layout, manifest: &Manifest) {
    let id = manifest.generation;
    let mut served = world.services.nginx.clone();
    let marker = served.remove("00-generation.conf");
    assert_eq!(
        marker.is_some(),
        !manifest.sites().is_empty(),
        "nginx's marker under {id}"
    );
    let expected: BTreeMap<String, String> = manifest
        .sites()
        .into_keys()
        .map(|app| {
            (
                format!("{app}.conf"),
                read(world, &layout.generation(id).site(app)),
            )
        })
        .collect();
    assert_eq!(served, expected, "nginx does not serve {id}");
}

fn check_secrets(world: &Simulated, layout: &Layout, manifest: &Manifest) {
    let mut found = BTreeMap::new();
    for app in world.disk.list(&layout.secrets()).unwrap() {
        let folder = layout.secrets().join(&app);
        let files: BTreeMap<String, Vec<u8>> = world
            .disk
            .list(&folder)
            .unwrap()
            .into_iter()
            .map(|name| (name.clone(), world.disk.read(&folder.join(name)).unwrap()))
            .collect();
        found.insert(app, files);
    }
    let id: GenerationId = manifest.generation;
    assert_eq!(
        found,
        plain_secrets(world, layout, manifest),
        "the secrets are not those of {id}"
    );
}

fn plain_secrets(
    world: &Simulated,
    layout: &Layout,
    manifest: &Manifest,
) -> BTreeMap<String, BTreeMap<String, Vec<u8>>> {
    let mut all: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for (app, name) in manifest.secrets().into_keys() {
        let sealed = world
            .disk
            .read(&layout.generation(manifest.generation).sealed(app, name));
        let plain = sealed.unwrap().strip_prefix(SEAL).unwrap().to_vec();
        all.entry(app.to_string())
            .or_default()
            .insert(name.to_string(), plain);
    }
    all
}

fn read(world: &Simulated, path: &Path) -> String {
    String::from_utf8(world.disk.read(path).unwrap()).unwrap()
}
