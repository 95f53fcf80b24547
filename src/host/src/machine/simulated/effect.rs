//! Which generation is in effect on a simulated host: code, units, nginx, firewall, secrets and
//! files, all of one, or what is of another.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use push_wire::manifest::{Manifest, Runs};
use push_wire::name::GenerationId;

use super::{SEAL, Simulated};
use crate::layout::Layout;
use crate::store::links::LinkReader;
use crate::store::{self, links};

impl Simulated {
    /// The generation that everything belongs to, with nothing left behind; 0 for none. A host that is
    /// half of one and half of another is a panic.
    pub fn generation_in_effect(&self) -> u64 {
        let served = self.generation_served();
        self.has_nothing_left()
            .unwrap_or_else(|why| panic!("SAFETY: something is left of another generation: {why}"));
        served
    }

    /// The same; links that lead nowhere may not be removed yet.
    pub fn generation_served(&self) -> u64 {
        self.whole()
            .unwrap_or_else(|why| panic!("SAFETY: neither wholly old nor wholly new: {why}"))
    }

    fn has_nothing_left(&self) -> Result<(), String> {
        let (layout, mut calm) = (Layout::new("/"), self.clone());
        calm.repair();
        let manifest =
            store::current_manifest(&calm, &layout).map_err(|error| error.to_string())?;
        check_leftovers(&calm, &layout, &manifest)
    }

    fn whole(&self) -> Result<u64, String> {
        let (layout, mut calm) = (Layout::new("/"), self.clone());
        calm.repair();
        let manifest =
            store::current_manifest(&calm, &layout).map_err(|error| error.to_string())?;
        store::verify(&calm, &layout, &manifest).map_err(|error| error.to_string())?;
        let id = manifest.generation;
        check_links(&calm, &layout, &manifest)?;
        check_units(&calm, &layout, &manifest)?;
        check_nginx(&calm, &layout, &manifest)?;
        let table = calm.services.table.clone();
        same(
            &format!("the firewall under {id}"),
            &table,
            &manifest.nftables(),
        )?;
        check_secrets(&calm, &layout, &manifest)?;
        for (name, app) in manifest.apps() {
            let code = calm.disk.read(&layout.app_current(name).join("code"));
            let declared = app.release.as_str().as_bytes().to_vec();
            same(
                &format!("the code of {name} under {id}"),
                &code.ok(),
                &Some(declared),
            )?;
        }
        Ok(id.0)
    }

    /// Whether the disk alone, before any recovery, already leads everybody to one generation: what
    /// reads its files early in a boot does not wait for a recovery.
    pub fn disk_leads_to(&self, id: u64, gone: u64) -> Result<(), String> {
        let (layout, mut calm) = (Layout::new("/"), self.clone());
        calm.repair();
        let read =
            |id| store::manifest(&calm, &layout, GenerationId(id)).map_err(|e| e.to_string());
        let found = store::current(&calm, &layout).map_err(|error| error.to_string())?;
        same("what current names", &found.0, &id)?;
        let manifest = read(id)?;
        check_links(&calm, &layout, &manifest)?;
        let kept = links::links(&layout, &manifest);
        // One that was pruned since has no links that could be left.
        for (place, link) in
            read(gone).map_or_else(|_| BTreeMap::new(), |m| links::links(&layout, &m))
        {
            let stays = calm.disk.read_link(&place).ok().flatten() == Some(link.target);
            if link.reader == LinkReader::Anybody && !kept.contains_key(&place) && stays {
                return Err(format!("{} leads nowhere", place.display()));
            }
        }
        Ok(())
    }
}

fn same<T: Debug + PartialEq>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, not {expected:?}"))
}

fn check_links(world: &Simulated, layout: &Layout, manifest: &Manifest) -> Result<(), String> {
    for (place, link) in links::links(layout, manifest) {
        let found = world.disk.read_link(&place).unwrap();
        same(
            &format!("the link {}", place.display()),
            &found,
            &Some(link.target),
        )?;
    }
    Ok(())
}

fn check_leftovers(world: &Simulated, layout: &Layout, manifest: &Manifest) -> Result<(), String> {
    let declared = links::links(layout, manifest);
    for id in store::generations(world, layout).unwrap() {
        let other = store::manifest(world, layout, id).map_err(|error| error.to_string())?;
        for (place, link) in links::links(layout, &other) {
            let ours = world.disk.read_link(&place).unwrap() == Some(link.target);
            if !declared.contains_key(&place) && ours {
                return Err(format!(
                    "{} stays although only {id} declares it",
                    place.display()
                ));
            }
        }
    }
    let all = world.disk.below(Path::new("/etc"));
    let hidden = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with('.') && !path.starts_with("push/generations")
    };
    same("left behind in /etc", &all.iter().find(hidden), &None)
}

fn check_units(world: &Simulated, layout: &Layout, manifest: &Manifest) -> Result<(), String> {
    let id = manifest.generation;
    let secrets = plain_secrets(world, layout, manifest);
    let mut running = world.services.running.clone();
    for (name, unit) in manifest.units() {
        let text = read(world, &layout.generation(id).unit(name));
        let loaded = world.services.loaded.get(name.as_str());
        same(
            &format!("{name} as loaded under {id}"),
            &loaded,
            &Some(&text),
        )?;
        let Some(found) = running.remove(name.as_str()) else {
            same(
                &format!("{name} of {id} does not run"),
                &unit.runs,
                &Runs::OnDemand,
            )?;
            continue;
        };
        same(&format!("what {name} runs under {id}"), &found.text, &text)?;
        if text.contains("app=") {
            let expected = secrets.get(unit.app.as_str()).cloned().unwrap_or_default();
            same(
                &format!("the secrets that {name} read under {id}"),
                &found.secrets,
                &expected,
            )?;
        }
    }
    let rest: Vec<&String> = running.keys().collect();
    same(
        &format!("what runs although {id} does not declare it"),
        &rest,
        &vec![],
    )
}

fn check_nginx(world: &Simulated, layout: &Layout, manifest: &Manifest) -> Result<(), String> {
    let id = manifest.generation;
    let mut served = world.services.nginx.clone();
    let marker = served.remove("00-generation.conf");
    same(
        &format!("whether nginx has a marker under {id}"),
        &marker.is_some(),
        &!manifest.sites().is_empty(),
    )?;
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
    same(&format!("what nginx serves under {id}"), &served, &expected)
}

fn check_secrets(world: &Simulated, layout: &Layout, manifest: &Manifest) -> Result<(), String> {
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
    let expected = plain_secrets(world, layout, manifest);
    same(
        &format!("the opened secrets under {}", manifest.generation),
        &found,
        &expected,
    )
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
