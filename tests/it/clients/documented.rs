//! The configuration that docs/clients.md shows, as a client is given it: with this site in the place of its examples.

use std::path::Path;

use crate::clients::program::text;
use crate::clients::site::Site;

/// The block of the page whose first line begins with `beginning`, for the directory at `directory` and a root in `root`.
pub fn block(beginning: &str, directory: &str, root: &Path) -> String {
    let page = include_str!("../../../docs/clients.md");
    // Blocks stand in lists, two columns in; what is between two fences is every other part.
    let mut parts = page.split("\n  ```").skip(1).step_by(2);
    let block = parts.find_map(|part| {
        let (_, lines) = part.split_once('\n')?;
        lines.trim_start().starts_with(beginning).then(|| lines.replace("\n  ", "\n").trim().to_owned())
    });
    let block = block.unwrap_or_else(|| panic!("docs/clients.md has no block that begins with {beginning}"));
    let block = block.replace("https://acme.example.org/directory", directory);
    block.replace("/etc/chancery/root.pem", &text(root)) + "\n"
}

/// As `block`, for the site's own directory.
pub fn block_for(site: &Site, beginning: &str) -> String {
    block(beginning, &site.directory, &site.root)
}
