//! Sites that want a certificate of an authority: whether they can have one on each of their hosts.

use super::super::Fleet;
use super::super::problem::{Problem, Problems};
use super::At;

/// Names the first host of each such site where they cannot.
pub(super) fn check(fleet: &Fleet, root: &At<'_>, problems: &mut Problems) {
    for app in fleet.apps.values() {
        let hosts = app.on.iter().filter_map(|name| fleet.hosts.get(name));
        let refused = hosts
            .into_iter()
            .find_map(|host| fleet.certificate(host, app).err());
        if let Some(why) = refused {
            let at = root.key("apps").key(app.name.as_str());
            let at = at.key("site").key("tls");
            let message = format!("{}: {why}", at.path);
            let problem = Problem::new("inventory::certificate", message).at(at.place());
            problems.push(problem.help(why.help()));
        }
    }
}
