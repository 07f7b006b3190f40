//! The extensions that a CSR requests (RFC 2985 §5.4.2): the names are read, what would not be granted is refused.

use std::collections::BTreeSet;

use super::{CsrError, alternative_names};
use crate::acme::identifier::Identifier;
use crate::pki::der::{BOOLEAN, DerError, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, SET, oid_text};

const EXTENSION_REQUEST: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e";

const SUBJECT_ALT_NAME: &[u8] = b"\x55\x1d\x11";
const BASIC_CONSTRAINTS: &[u8] = b"\x55\x1d\x13";
/// RFC 7633 §6.
const TLS_FEATURE: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x01\x18";

/// keyUsage, extendedKeyUsage, subjectKeyIdentifier: tools add them unasked, and the profile decides what the certificate
/// has of them.
const DECIDED_BY_PROFILE: [&[u8]; 3] = [b"\x55\x1d\x0f", b"\x55\x1d\x25", b"\x55\x1d\x0e"];

/// Reads the attributes for the one extension request, and that for the names. RFC 8555 §7.4: a request that asks for
/// extensions that would not be issued is an error. An extension that is neither critical nor known here was no
/// condition, and is left out.
pub(super) fn read(mut attributes: Reader<'_>, names: &mut BTreeSet<Identifier>) -> Result<(), CsrError> {
    let mut requested = false;
    while !attributes.is_empty() {
        let mut attribute = attributes.enter(SEQUENCE)?;
        let kind = attribute.expect(OID)?.content;
        let mut values = attribute.enter(SET)?;
        attribute.finish()?;
        if kind != EXTENSION_REQUEST {
            continue;
        }
        if std::mem::replace(&mut requested, true) {
            return Err(CsrError::Repeated);
        }
        let extensions = values.enter(SEQUENCE)?;
        values.finish()?;
        judge(extensions, names)?;
    }
    Ok(())
}

fn judge(mut extensions: Reader<'_>, names: &mut BTreeSet<Identifier>) -> Result<(), CsrError> {
    let mut named = false;
    while !extensions.is_empty() {
        let mut extension = extensions.enter(SEQUENCE)?;
        let kind = extension.expect(OID)?.content;
        let critical = extension.optional(BOOLEAN)?.is_some_and(|flag| flag.content != [0]);
        let value = extension.expect(OCTET_STRING)?.content;
        extension.finish()?;
        match kind {
            SUBJECT_ALT_NAME if std::mem::replace(&mut named, true) => return Err(CsrError::Repeated),
            SUBJECT_ALT_NAME => alternative_names(value, names)?,
            BASIC_CONSTRAINTS if is_authority(value)? => return Err(CsrError::Authority),
            BASIC_CONSTRAINTS => {}
            TLS_FEATURE => return Err(CsrError::MustStaple),
            _ if critical && !DECIDED_BY_PROFILE.contains(&kind) => {
                return Err(CsrError::CriticalExtension(oid_text(kind)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether basicConstraints (RFC 5280 §4.2.1.9) say `cA`.
fn is_authority(extension: &[u8]) -> Result<bool, DerError> {
    let mut outer = Reader::new(extension);
    let mut constraints = outer.enter(SEQUENCE)?;
    outer.finish()?;
    let authority = constraints.optional(BOOLEAN)?.is_some_and(|flag| flag.content != [0]);
    constraints.optional(INTEGER)?;
    constraints.finish()?;
    Ok(authority)
}
