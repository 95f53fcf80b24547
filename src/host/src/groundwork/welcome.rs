//! The page that Debian's nginx shows for every name. Only as its package brings it: what somebody changed
//! is theirs.

use std::io;

use super::{GroundworkError, text};
use crate::layout::Layout;
use crate::machine::{Disk, Machine, Tool};

/// What the package's file says, without its comments: the same on every Debian and Ubuntu since 2016.
pub(super) const STOCK: &str = "server { listen 80 default_server; listen [::]:80 default_server; root /var/www/html; \
                     index index.html index.htm index.nginx-debian.html; server_name _; \
                     location / { try_files $uri $uri/ =404; } }";

/// Whether it is shown, or would be once nginx is installed.
pub fn is_shown<M: Disk>(machine: &M, layout: &Layout) -> io::Result<bool> {
    if machine.stat(&layout.nginx_settings())?.is_none() {
        return Ok(true);
    }
    is_linked(machine, layout)
}

/// Takes it off. nginx, told here and before each order of a certificate, then shows it no more.
pub fn remove<M: Machine>(machine: &mut M, layout: &Layout) -> Result<(), GroundworkError> {
    if !is_linked(machine, layout)? {
        return Ok(());
    }
    let link = layout.welcome_page();
    machine.remove(&link)?;
    machine.sync(link.parent().unwrap_or(&link))?;
    Ok(machine.run(&Tool::ReloadNginx)?)
}

fn is_linked<M: Disk>(machine: &M, layout: &Layout) -> io::Result<bool> {
    let link = layout.welcome_page();
    Ok(machine.read_link(&link)?.is_some() && is_stock(&text(machine, &link)?))
}

fn is_stock(found: &str) -> bool {
    let said = found
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    said.flat_map(str::split_whitespace)
        .eq(STOCK.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_somebody_changed_is_no_longer_the_packages() {
        let stock = "##\n# You should look at the following URL's\n\nserver {\n\tlisten 80 default_server;\n\
                     \tlisten [::]:80 default_server;\n\n\t# SSL configuration\n\troot /var/www/html;\n\n\
                     \tindex index.html index.htm index.nginx-debian.html;\n\n\tserver_name _;\n\n\
                     \tlocation / {\n\t\t# First attempt\n\t\ttry_files $uri $uri/ =404;\n\t}\n}\n# Virtual Host\n";
        assert!(is_stock(stock));
        assert!(!is_stock(&stock.replace("/var/www/html", "/var/www/mine")));
        assert!(!is_stock(""));
    }
}
