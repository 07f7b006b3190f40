//! Chancery beside its peers: what `peers/run` measured, as ratios, and the tables of `docs/comparison.md`.

mod folder;
mod page;
mod ratios;
mod tables;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::arguments::CompareArguments;
use crate::failure::Failure;

/// Reads the folder, prints the tables, and writes what was asked for. `true` unless nothing was measured.
pub(crate) fn run(arguments: &CompareArguments) -> Result<bool, Failure> {
    let results = folder::read(&arguments.folder)?;
    let rendered = tables::render(&results);
    for (name, table) in &rendered {
        println!("[{name}]\n{table}");
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&results)
            .map_err(|error| Failure::Setup(format!("the results cannot be written as JSON: {error}")))?;
        write(path, &(text + "\n"))?;
    }
    if let Some(path) = &arguments.page {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::Setup(format!("{}: {error}", path.display())))?;
        write(path, &page::with_tables(&text, &rendered)?)?;
    }
    Ok(!results.windows.is_empty())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::Setup(format!("{}: {error}", path.display())))
}
