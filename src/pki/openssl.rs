//! The second opinion of this room's tests: the `openssl` program, in a folder of its own.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A temporary folder, removed at the end, in which openssl runs.
pub(super) struct Folder(PathBuf);

/// The keys that [`Folder::key`] makes.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyKind {
    Ed25519,
    P256,
    P384,
    P521,
    Rsa(u32),
    RsaExponent3,
    RsaPss,
    Secp256k1,
}

impl KeyKind {
    fn options(self) -> String {
        match self {
            Self::Ed25519 => "-algorithm ED25519".into(),
            Self::P256 => "-algorithm EC -pkeyopt ec_paramgen_curve:P-256".into(),
            Self::P384 => "-algorithm EC -pkeyopt ec_paramgen_curve:P-384".into(),
            Self::P521 => "-algorithm EC -pkeyopt ec_paramgen_curve:P-521".into(),
            Self::Rsa(bits) => format!("-algorithm RSA -pkeyopt rsa_keygen_bits:{bits}"),
            Self::RsaExponent3 => {
                "-algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3".into()
            }
            Self::RsaPss => "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048".into(),
            Self::Secp256k1 => "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1".into(),
        }
    }
}

impl Folder {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("chancery-pki-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Makes a private key, PKCS #8 in PEM. RSA keys take long to find, so each size is found once a run.
    pub(super) fn key(&self, name: &str, kind: KeyKind) {
        static RSA: [OnceLock<Vec<u8>>; 4] = [const { OnceLock::new() }; 4];
        let make = || {
            self.run(&format!("genpkey {} -out {name}", kind.options()));
            fs::read(self.path(name)).unwrap()
        };
        if let KeyKind::Rsa(bits @ (1024 | 2048 | 3072 | 4096)) = kind {
            self.write(name, RSA[bits as usize / 1024 - 1].get_or_init(make));
        } else {
            make();
        }
    }

    fn output(&self, arguments: &str, input: &[u8]) -> Output {
        let mut child = Command::new("openssl")
            .args(arguments.split_ascii_whitespace())
            .current_dir(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is installed");
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs openssl, which must succeed, with these arguments (no argument has white space); what it printed.
    pub(super) fn run(&self, arguments: &str) -> String {
        self.run_with_input(arguments, b"")
    }

    /// The same, with something to read.
    pub(super) fn run_with_input(&self, arguments: &str, input: &[u8]) -> String {
        let output = self.output(arguments, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &errors
    }

    /// Runs openssl, which must fail; what it printed.
    pub(super) fn fail(&self, arguments: &str) -> String {
        let output = self.output(arguments, b"");
        assert!(!output.status.success(), "openssl {arguments} succeeded");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
