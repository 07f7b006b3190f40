//! docs/cert-manager.md: what it tells operators to set and to apply is what the test sets and applies.

use std::path::Path;

/// The page.
pub struct Page {
    text: String,
}

impl Page {
    /// Reads it.
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cert-manager.md");
        Self { text: std::fs::read_to_string(path).expect("the page is there") }
    }

    /// The blocks of a language.
    fn blocks(&self, language: &str) -> Vec<&str> {
        let fence = format!("```{language}\n");
        self.text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
    }

    /// All YAML, as one file.
    pub fn yaml(&self) -> String {
        self.blocks("yaml").join("---\n")
    }

    /// The profiles that its Issuers use.
    pub fn profiles(&self) -> String {
        self.blocks("toml").concat()
    }

    /// Its Issuers, with their Secrets.
    pub fn issuers(&self) -> String {
        let blocks = self.blocks("yaml");
        blocks
            .into_iter()
            .filter(|block| !block.contains("kind: Certificate\n"))
            .collect::<Vec<_>>()
            .join("---\n")
    }

    /// One of its Certificates.
    pub fn certificate(&self, name: &str) -> String {
        let yaml = self.yaml();
        let wanted = |object: &&str| {
            object.contains("kind: Certificate\n") && object.contains(&format!("metadata:\n  name: {name}\n"))
        };
        yaml.split("---\n").find(wanted).unwrap_or_else(|| panic!("no Certificate {name}")).to_owned()
    }
}
