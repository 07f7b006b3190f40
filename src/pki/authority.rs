//! A certificate authority of one's own, for the embedded mode: a root and an issuing certificate below it,
//! made at the first start and kept as four files in the data folder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PublicKeyData, RsaKeySize, SerialNumber,
};
use zeroize::Zeroizing;

use crate::acme::certificate::Serial;
use crate::acme::identifier::Identifier;
use crate::acme::time::Timestamp;
use crate::pki::chain::pem;
use crate::pki::error::IssuerError;
use crate::pki::issuer::LocalIssuer;
use crate::pki::key::PublicKey;
use crate::pki::template::Template;

const DAY: Duration = Duration::from_secs(86_400);

/// How long a root made here is valid: ten years.
pub const ROOT_VALIDITY: Duration = Duration::from_secs(3_650 * DAY.as_secs());
/// How long an issuing certificate made here is valid: five years.
pub const ISSUING_VALIDITY: Duration = Duration::from_secs(1_825 * DAY.as_secs());
/// How long a server certificate made here is valid: 30 days.
pub const SERVER_VALIDITY: Duration = Duration::from_secs(30 * DAY.as_secs());
/// By how much certificates made here are dated back, for machines whose clocks are slow: an hour.
const BACKDATE: Duration = Duration::from_secs(3_600);

/// The root, which clients trust.
pub const ROOT: &str = "root.pem";
const ROOT_KEY: &str = "root.key";
/// The certificate that leaves are issued under.
pub const ISSUING: &str = "issuing.pem";
/// Its key.
pub const ISSUING_KEY: &str = "issuing.key";
/// Those that a replica needs.
const NEEDED: [&str; 3] = [ROOT, ISSUING, ISSUING_KEY];

/// The kind of keys that an authority is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityKey {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA, 2048 bits.
    Rsa2048,
    /// RSA, 3072 bits.
    Rsa3072,
    /// RSA, 4096 bits.
    Rsa4096,
}

impl AuthorityKey {
    fn generate(self) -> Result<KeyPair, IssuerError> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::Rsa2048 => rsa(RsaKeySize::_2048),
            Self::Rsa3072 => rsa(RsaKeySize::_3072),
            Self::Rsa4096 => rsa(RsaKeySize::_4096),
        }
        .map_err(|error| IssuerError::CannotGenerate(error.to_string()))
    }
}

/// A new authority, everything in PEM, keys as PKCS #8.
pub struct NewAuthority {
    /// The root's certificate: what relying parties are to trust.
    pub root_certificate: String,
    /// The root's key, which nothing here needs again.
    pub root_key: Zeroizing<String>,
    /// The certificate that leaves are issued under.
    pub issuing_certificate: String,
    /// Its key.
    pub issuing_key: Zeroizing<String>,
}

/// Makes a root and an issuing certificate named after `name` (1 to 48 characters), valid from a little
/// before `now` for the times given; the issuing certificate never longer than the root.
pub fn create_authority(
    name: &str,
    key: AuthorityKey,
    now: Timestamp,
    root_validity: Duration,
    issuing_validity: Duration,
) -> Result<NewAuthority, IssuerError> {
    if !(1..=48).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(IssuerError::Name);
    }
    let (root_key, issuing_key) = (key.generate()?, key.generate()?);
    let root_end = now.plus(root_validity);
    let root = authority_params(&format!("{name} Root CA"), &root_key, 1, now, root_end)?;
    let issuing_end = now.plus(issuing_validity).min(root_end);
    let mut issuing = authority_params(&format!("{name} Issuing CA"), &issuing_key, 0, now, issuing_end)?;
    issuing.use_authority_key_identifier_extension = true;
    let root_certificate = root.self_signed(&root_key)?;
    let issuing_certificate =
        issuing.signed_by(&issuing_key, &rcgen::Issuer::from_params(&root, &root_key))?;
    let private = |key: &KeyPair| Zeroizing::new(key.serialize_pem());
    Ok(NewAuthority {
        root_certificate: pem(root_certificate.der(), "CERTIFICATE"),
        root_key: private(&root_key),
        issuing_certificate: pem(issuing_certificate.der(), "CERTIFICATE"),
        issuing_key: private(&issuing_key),
    })
}

fn authority_params(
    common_name: &str,
    key: &KeyPair,
    path_length: u8,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, IssuerError> {
    let spki = key.subject_public_key_info();
    let key_id = PublicKey::parse(&spki).map_err(IssuerError::LeafKey)?.identifier();
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(random_serial()?.as_bytes()));
    params.not_before = now.minus(BACKDATE).to_datetime();
    params.not_after = not_after.to_datetime();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_id);
    Ok(params)
}

fn random_serial() -> Result<Serial, IssuerError> {
    let mut octets = [0; 16];
    rand::fill(&mut octets).map_err(|_| IssuerError::CannotGenerate("no random numbers".into()))?;
    Ok(Serial::from_random(octets))
}

/// What of an authority is not in a folder; nothing if it is complete. The root's key may be elsewhere.
pub fn missing(folder: &Path) -> Vec<&'static str> {
    NEEDED.into_iter().filter(|file| !folder.join(file).exists()).collect()
}

/// The issuer in a data folder: `root.pem`, `root.key`, `issuing.pem`, `issuing.key`. If none of them is
/// there, a new authority is made first (with the validities of this module). `root.key` may have been taken
/// away for safe keeping; any other missing file is an error. Of two processes that start at once, one makes
/// the authority, and both use it. `include_root` is that of [`LocalIssuer::from_pem`].
pub fn load_or_create(
    folder: &Path,
    name: &str,
    key: AuthorityKey,
    now: Timestamp,
    include_root: bool,
) -> Result<LocalIssuer, IssuerError> {
    let within = |file: &str| {
        let path = folder.join(file);
        move |source| IssuerError::File { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(within("."))?;
    // The system gives the lock up when this process ends, however it ends.
    let lock = private_options().create(true).truncate(false).open(folder.join(".authority.lock"));
    let lock = lock.map_err(within(".authority.lock"))?;
    lock.lock().map_err(within(".authority.lock"))?;

    let missing = missing(folder);
    if missing.len() == NEEDED.len() && !folder.join(ROOT_KEY).exists() {
        let new = create_authority(name, key, now, ROOT_VALIDITY, ISSUING_VALIDITY)?;
        for (file, text, mode) in [
            (ROOT_KEY, new.root_key.as_str(), 0o600),
            (ISSUING_KEY, new.issuing_key.as_str(), 0o600),
            (ISSUING, new.issuing_certificate.as_str(), 0o644),
            (ROOT, new.root_certificate.as_str(), 0o644),
        ] {
            write_file(folder, file, text, mode).map_err(within(file))?;
        }
    } else if !missing.is_empty() {
        return Err(IssuerError::Incomplete { folder: folder.to_owned(), missing: missing.join(", ") });
    }
    let read = |file: &str| fs::read_to_string(folder.join(file)).map_err(within(file));
    let issuing_key = Zeroizing::new(read(ISSUING_KEY)?);
    LocalIssuer::from_pem(&read(ISSUING)?, &issuing_key, &[read(ROOT)?], include_root)
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Writes a file so that it is there whole or not at all, and stays after a power cut.
fn write_file(folder: &Path, name: &str, text: &str, mode: u32) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.new"));
    // One that a crash left behind.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private_options().mode(mode).create_new(true).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// What a server certificate for this program's own TLS listener is to say, and its key.
pub struct ServerDraft {
    /// What an issuer is to sign. It names no CRL and no issuer yet.
    pub template: Template,
    /// The key as PKCS #8 in DER.
    pub key: Zeroizing<Vec<u8>>,
}

impl ServerDraft {
    /// A draft with a new P-256 key, for 30 days, or until the issuer ends at `issuer_end`.
    pub fn new(names: &[Identifier], now: Timestamp, issuer_end: Timestamp) -> Result<Self, IssuerError> {
        let key = AuthorityKey::P256.generate()?;
        let template = Template {
            serial: random_serial()?,
            identifiers: names.to_vec(),
            common_name: None,
            not_before: now.minus(BACKDATE).truncated(),
            not_after: now.plus(SERVER_VALIDITY).min(issuer_end).truncated(),
            public_key: key.subject_public_key_info(),
            client_auth: false,
            crl_url: None,
            issuer_url: None,
            policy_oid: None,
        };
        Ok(Self { template, key: Zeroizing::new(key.serialize_der()) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::pki::issuer::Issuer;
    use crate::pki::openssl::Folder;

    const NOW: Timestamp = Timestamp::from_seconds(1_893_456_000);

    fn load(folder: &Path) -> Result<LocalIssuer, IssuerError> {
        load_or_create(folder, "Test", AuthorityKey::P256, NOW, false)
    }

    #[test]
    fn an_authority_is_made_once_and_found_again() {
        let folder = Folder::new();
        let data = folder.path("data/authority");
        let first = load(&data).unwrap();
        assert_eq!(load(&data).unwrap().certificate_der(), first.certificate_der());
        let mode = |file: &str| fs::metadata(data.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("."), 0o700);
        assert_eq!([mode(ROOT_KEY), mode(ISSUING_KEY), mode(ROOT)], [0o600, 0o600, 0o644]);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 5, "four files and the lock");
        // The root's key may be kept elsewhere.
        fs::remove_file(data.join(ROOT_KEY)).unwrap();
        assert_eq!(load(&data).unwrap().id(), first.id());
    }

    #[test]
    fn half_an_authority_is_refused_and_left_alone() {
        let folder = Folder::new();
        for lost in [ROOT, ISSUING, ISSUING_KEY] {
            let data = folder.path(lost);
            load(&data).unwrap();
            fs::remove_file(data.join(lost)).unwrap();
            let refused = load(&data).unwrap_err();
            assert!(
                matches!(&refused, IssuerError::Incomplete { missing, .. } if missing == lost),
                "{refused}"
            );
            assert!(!data.join(lost).exists());
        }
        let data = folder.path("only-the-root-key");
        fs::create_dir(&data).unwrap();
        fs::write(data.join(ROOT_KEY), "x").unwrap();
        assert!(matches!(load(&data), Err(IssuerError::Incomplete { .. })));
    }

    #[test]
    fn of_many_that_start_at_once_one_makes_the_authority() {
        let folder = Folder::new();
        let data = folder.path("data");
        let ids: Vec<String> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|_| scope.spawn(|| load(&data).unwrap().id().to_owned())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    #[test]
    fn an_issuing_certificate_never_outlives_its_root() {
        let new = create_authority("Test", AuthorityKey::P256, NOW, DAY, 2 * DAY).unwrap();
        let issuer =
            LocalIssuer::from_pem(&new.issuing_certificate, &new.issuing_key, &[new.root_certificate], true)
                .unwrap();
        assert_eq!(issuer.not_after(), NOW.plus(DAY));
        assert_eq!(issuer.chains()[0].len(), 2);
        for wrong in ["", "a\nb", &"a".repeat(49)] {
            let refused = create_authority(wrong, AuthorityKey::P256, NOW, DAY, DAY);
            assert!(matches!(refused, Err(IssuerError::Name)), "{wrong}");
        }
    }

    #[tokio::test]
    async fn server_certificates_are_fit_for_tls() {
        let folder = Folder::new();
        let issuer = load(&folder.path("data")).unwrap();
        let names = [Identifier::Dns("localhost".into()), Identifier::Ip([127, 0, 0, 1].into())];
        let draft = ServerDraft::new(&names, NOW, issuer.not_after()).unwrap();
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(draft.key.to_vec());
        let leaf = issuer.issue(&draft.template).await.unwrap();
        let chain = std::iter::once(leaf).chain(issuer.chains()[0].clone()).map(Into::into).collect();
        // rustls checks that key and certificate belong together.
        rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .unwrap();
    }
}
