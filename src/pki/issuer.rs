//! Who signs: the [`Issuer`] trait, and the issuer whose key is in this process.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::task::spawn_blocking;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::acme::certificate::Serial;
use crate::acme::identifier::Identifier;
use crate::acme::profile::KeyType;
use crate::acme::time::Timestamp;
use crate::pki::chain::certificates;
use crate::pki::crl::CrlTemplate;
use crate::pki::error::IssuerError;
use crate::pki::hex;
use crate::pki::key::PublicKey;
use crate::pki::parts::Parts;
use crate::pki::signer::Signer;
use crate::pki::template::Template;

/// CRLs with more entries than this are made off the async threads.
const LONG_CRL: usize = 1_000;

/// Something that signs certificates and CRLs under one issuing certificate: a key in this process, or one
/// elsewhere.
#[async_trait]
pub trait Issuer: Send + Sync {
    /// The issuing certificate's subject key identifier, hexadecimal.
    fn id(&self) -> &str;

    /// The same, as octets: what leaves and CRLs have as their authority key identifier.
    fn key_id(&self) -> &[u8];

    /// The issuing certificate in DER.
    fn certificate_der(&self) -> &[u8];

    /// The last second of the issuing certificate's validity.
    fn not_after(&self) -> Timestamp;

    /// The chains that can be offered, the default one first: for each, the DER certificates that follow the
    /// leaf.
    fn chains(&self) -> &[Vec<Vec<u8>>];

    /// Signs a leaf; its DER. The same template may be signed again after a crash, and differs in the
    /// signature only.
    async fn issue(&self, template: &Template) -> Result<Vec<u8>, IssuerError>;

    /// Signs a CRL; its DER.
    async fn sign_crl(&self, crl: &CrlTemplate) -> Result<Vec<u8>, IssuerError>;
}

/// An issuer whose key is in this process's memory. Cheap to clone.
#[derive(Clone)]
pub struct LocalIssuer(Arc<Inner>);

struct Inner {
    id: String,
    key_id: Vec<u8>,
    certificate: Vec<u8>,
    not_after: Timestamp,
    chains: Vec<Vec<Vec<u8>>>,
    signer: rcgen::Issuer<'static, Signer>,
    /// Whether one signature takes milliseconds.
    slow: bool,
}

impl fmt::Debug for LocalIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalIssuer").field("id", &self.0.id).finish_non_exhaustive()
    }
}

impl LocalIssuer {
    /// Makes an issuer from PEM texts: the issuing certificate, its private key, and for each chain to offer
    /// the certificates that follow the issuing one, nearest first (an empty text is the chain of the issuing
    /// certificate alone, and so is no text). Roots are left out of the chains unless `include_root`.
    ///
    /// The key must belong to the certificate, each certificate of a chain must have issued the one before,
    /// and a leaf that is issued for trial and thrown away must come out right.
    pub fn from_pem(
        certificate: &str,
        key: &str,
        chains: &[String],
        include_root: bool,
    ) -> Result<Self, IssuerError> {
        let found = certificates(certificate).unwrap_or_default();
        let [certificate] =
            <[Vec<u8>; 1]>::try_from(found).map_err(|f| IssuerError::NotOneCertificate(f.len()))?;
        let key_pair = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .ok()
            .and_then(|der| KeyPair::try_from(&der).ok())
            .ok_or(IssuerError::KeyUnreadable)?;
        let spki = key_pair.subject_public_key_info();
        let slow = match PublicKey::parse(&spki).and_then(|key| key.key_type()) {
            Ok(KeyType::P256 | KeyType::P384) => false,
            Ok(KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096) => true,
            _ => return Err(IssuerError::KeyKind),
        };
        let parts = Parts::cut(&certificate).map_err(|_| IssuerError::NotAnAuthority("it is not DER"))?;
        if parts.public_key != spki {
            return Err(IssuerError::KeyMismatch);
        }
        let (key_id, not_after) = authority(&certificate)?;
        let chains = read_chains(&certificate, chains, include_root)?;
        let signer = Signer::issuer(key_pair, &key_id, parts.subject);
        let id = hex(&key_id);
        let issuer = Self(Arc::new(Inner { id, key_id, certificate, not_after, chains, signer, slow }));
        issuer.0.try_out()?;
        Ok(issuer)
    }
}

#[async_trait]
impl Issuer for LocalIssuer {
    fn id(&self) -> &str {
        &self.0.id
    }

    fn key_id(&self) -> &[u8] {
        &self.0.key_id
    }

    fn certificate_der(&self) -> &[u8] {
        &self.0.certificate
    }

    fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    fn chains(&self) -> &[Vec<Vec<u8>>] {
        &self.0.chains
    }

    async fn issue(&self, template: &Template) -> Result<Vec<u8>, IssuerError> {
        if !self.0.slow {
            return self.0.issue(template);
        }
        let (inner, template) = (Arc::clone(&self.0), template.clone());
        spawn_blocking(move || inner.issue(&template)).await.map_err(|_| IssuerError::Interrupted)?
    }

    async fn sign_crl(&self, crl: &CrlTemplate) -> Result<Vec<u8>, IssuerError> {
        if !self.0.slow && crl.revoked.len() <= LONG_CRL {
            return self.0.sign_crl(crl);
        }
        let (inner, crl) = (Arc::clone(&self.0), crl.clone());
        spawn_blocking(move || inner.sign_crl(&crl)).await.map_err(|_| IssuerError::Interrupted)?
    }
}

impl Inner {
    fn sign_crl(&self, crl: &CrlTemplate) -> Result<Vec<u8>, IssuerError> {
        let signed = crl.params(&self.key_id)?.signed_by(&self.signer)?;
        self.signer.key().signed(signed.der()).map_err(|_| IssuerError::Miswritten("form"))
    }

    fn issue(&self, template: &Template) -> Result<Vec<u8>, IssuerError> {
        let params = template.params(self.not_after)?;
        let key = rcgen::SubjectPublicKeyInfo::from_der(&template.public_key)?;
        let leaf = params.signed_by(&key, &self.signer)?;
        let leaf = self.signer.key().signed(leaf.der()).map_err(|_| IssuerError::Miswritten("form"))?;
        // rcgen writes keys anew, from what it made of them: what came out decides.
        let parts = Parts::cut(&leaf).map_err(|_| IssuerError::Miswritten("form"))?;
        let issuer = Parts::cut(&self.certificate).map_err(|_| IssuerError::Miswritten("issuer"))?;
        if parts.public_key != template.public_key {
            return Err(IssuerError::Miswritten("public key"));
        }
        if parts.serial != template.serial.as_bytes() {
            return Err(IssuerError::Miswritten("serial number"));
        }
        if parts.issuer != issuer.subject {
            return Err(IssuerError::Miswritten(
                "the issuer's name is not the issuing certificate's subject",
            ));
        }
        Ok(leaf)
    }

    /// Issues a leaf that was never valid and that nobody gets, and looks whether it is this issuer's.
    fn try_out(&self) -> Result<(), IssuerError> {
        let issuer = Parts::cut(&self.certificate).map_err(|_| IssuerError::Miswritten("issuer"))?;
        let template = Template {
            serial: Serial::from_random([1; 16]),
            identifiers: vec![Identifier::Dns("trial.invalid".into())],
            common_name: None,
            not_before: Timestamp::from_seconds(0),
            not_after: Timestamp::from_seconds(0),
            public_key: issuer.public_key.to_vec(),
            client_auth: false,
            crl_url: None,
            issuer_url: None,
            policy_oid: None,
        };
        let leaf = self.issue(&template)?;
        let parts = Parts::cut(&leaf).map_err(|_| IssuerError::Miswritten("form"))?;
        if !parts.is_signed_by(&issuer) {
            return Err(IssuerError::Miswritten("signature"));
        }
        let (_, leaf) = X509Certificate::from_der(&leaf).map_err(|_| IssuerError::Miswritten("form"))?;
        let named = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(aki) => aki.key_identifier.as_ref().map(|id| id.0),
            _ => None,
        });
        if named != Some(&self.key_id) {
            return Err(IssuerError::Miswritten("authority key identifier"));
        }
        Ok(())
    }
}

/// Reads an issuing certificate's subject key identifier and last second, after checking that it may issue
/// (RFC 5280 §4.2.1.2, §4.2.1.3, §4.2.1.9).
fn authority(der: &[u8]) -> Result<(Vec<u8>, Timestamp), IssuerError> {
    let refuse = IssuerError::NotAnAuthority;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| refuse("it is not X.509"))?;
    if !certificate.is_ca() {
        return Err(refuse("it is not a CA certificate (basicConstraints CA:TRUE)"));
    }
    if let Some(usage) = certificate.key_usage().map_err(|_| refuse("it has two key usage extensions"))? {
        if !usage.value.key_cert_sign() {
            return Err(refuse("its key usage lacks keyCertSign"));
        }
        if !usage.value.crl_sign() {
            return Err(refuse("its key usage lacks cRLSign, and CRLs must be signed"));
        }
    }
    let key_id = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    let key_id = key_id.filter(|id| !id.is_empty() && id.len() <= 64);
    let key_id =
        key_id.ok_or_else(|| refuse("it has no subject key identifier, which leaves must refer to"))?;
    Ok((key_id, Timestamp::from_seconds(certificate.validity().not_after.timestamp())))
}

fn read_chains(
    issuing: &[u8],
    texts: &[String],
    include_root: bool,
) -> Result<Vec<Vec<Vec<u8>>>, IssuerError> {
    let alone = [String::new()];
    let texts = if texts.is_empty() { &alone } else { texts };
    texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let broken = |position| IssuerError::ChainOrder { chain: index + 1, position };
            let mut chain = vec![issuing.to_vec()];
            chain.extend(certificates(text).ok_or_else(|| broken(2))?);
            for (position, pair) in chain.windows(2).enumerate() {
                let order = || {
                    let (below, above) = (Parts::cut(&pair[0]).ok()?, Parts::cut(&pair[1]).ok()?);
                    let (_, certificate) = X509Certificate::from_der(&pair[1]).ok()?;
                    (certificate.is_ca() && below.is_signed_by(&above)).then_some(())
                };
                order().ok_or_else(|| broken(position + 2))?;
            }
            let root = |der: &Vec<u8>| Parts::cut(der).is_ok_and(|parts| parts.is_self_issued());
            if !include_root && chain.last().is_some_and(root) {
                chain.pop();
            }
            Ok(chain)
        })
        .collect()
}
