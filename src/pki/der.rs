//! A reader and a writer for the part of DER (X.690) that PKCS #10 and X.509 use. The reader borrows, takes
//! definite minimal lengths only, and leaves nothing unread unnoticed.

use thiserror::Error;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// Where the octets were not DER, or not the structure expected. The text completes "the DER ...".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DerError {
    /// An INTEGER is empty, negative, or has a superfluous leading zero.
    #[error("has an integer that is negative or not minimal")]
    Integer,
    /// A length that is indefinite, not minimal, or past the end.
    #[error("has a length that is indefinite, not minimal, or past the end")]
    Length,
    /// Octets after the end of a structure.
    #[error("has octets after the end of a structure")]
    Trailing,
    /// The octets end where something should follow.
    #[error("ends too early")]
    Truncated,
    /// Another tag than the structure has here.
    #[error("has an unexpected element")]
    UnexpectedTag,
    /// A BIT STRING that is not a whole number of octets.
    #[error("has a bit string that is not a whole number of octets")]
    UnusedBits,
}

/// One element: its tag, what is in it, and all of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    pub(super) raw: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(der: &'a [u8]) -> Self {
        Self { rest: der }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element, if there is one.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever its tag.
    pub(super) fn element(&mut self) -> Result<Element<'a>, DerError> {
        let [tag, first, ..] = *self.rest else { return Err(DerError::Truncated) };
        // A tag number of 31 goes on in further octets: nothing that is read here has one.
        if tag & 0x1f == 0x1f {
            return Err(DerError::UnexpectedTag);
        }
        let (header, length) = match first {
            0..=0x7f => (2, usize::from(first)),
            // Four octets: a list of a million revoked certificates has 49 MB.
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let octets = self.rest.get(2..2 + count).ok_or(DerError::Truncated)?;
                let length = octets.iter().fold(0, |sum, octet| (sum << 8) | usize::from(*octet));
                if length < 0x80 || octets[0] == 0 {
                    return Err(DerError::Length);
                }
                (2 + count, length)
            }
            _ => return Err(DerError::Length),
        };
        let raw = self.rest.get(..header + length).ok_or(DerError::Length)?;
        self.rest = &self.rest[raw.len()..];
        Ok(Element { tag, content: &raw[header..], raw })
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Element<'a>, DerError> {
        let element = self.element()?;
        if element.tag == tag { Ok(element) } else { Err(DerError::UnexpectedTag) }
    }

    /// A reader of what is inside the next element, which must have this tag.
    pub(super) fn enter(&mut self, tag: u8) -> Result<Self, DerError> {
        Ok(Self::new(self.expect(tag)?.content))
    }

    /// The next element if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, DerError> {
        if self.peek() == Some(tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    /// The magnitude of a non-negative INTEGER, big-endian, without leading zeros (zero itself is one zero
    /// octet).
    pub(super) fn unsigned(&mut self) -> Result<&'a [u8], DerError> {
        match self.expect(INTEGER)?.content {
            [0, second, ..] if *second < 0x80 => Err(DerError::Integer),
            [0, rest @ ..] if !rest.is_empty() => Ok(rest),
            content @ [0..=0x7f, ..] => Ok(content),
            _ => Err(DerError::Integer),
        }
    }

    /// The octets of a BIT STRING that is a whole number of octets.
    pub(super) fn octet_bits(&mut self) -> Result<&'a [u8], DerError> {
        match self.expect(BIT_STRING)?.content {
            [0, octets @ ..] => Ok(octets),
            _ => Err(DerError::UnusedBits),
        }
    }

    /// Ends the structure: nothing may be left.
    pub(super) const fn finish(self) -> Result<(), DerError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DerError::Trailing) }
    }
}

/// Writes one element.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|octet| **octet == 0).count()..];
    match (significant, significant.len()) {
        ([], _) => der.push(0),
        ([short @ 0..=0x7f], _) => der.push(*short),
        // A usize has at most eight octets.
        (octets, count) => {
            der.push(0x80 | count as u8);
            der.extend_from_slice(octets);
        }
    }
    der.extend_from_slice(content);
    der
}

/// Writes a SEQUENCE of the elements given.
pub(super) fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    element(SEQUENCE, &elements.concat())
}

/// The numbers of a dotted object identifier, or `None` if it is none: `2.23.140.1.2.1`.
pub(super) fn oid_arcs(text: &str) -> Option<Vec<u64>> {
    if text.len() > 128 {
        return None;
    }
    let digits = |arc: &str| arc.bytes().all(|b| b.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0'));
    let arcs: Vec<u64> =
        text.split('.').map(|arc| digits(arc).then(|| arc.parse().ok())?).collect::<Option<_>>()?;
    match arcs.as_slice() {
        [0 | 1, 0..=39, ..] | [2, 0..=1000, ..] => Some(arcs),
        _ => None,
    }
}

/// Writes an OBJECT IDENTIFIER of at least two arcs.
pub(super) fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = Vec::new();
    let first = arcs.iter().take(2).fold(0, |sum, arc| sum * 40 + arc);
    for arc in std::iter::once(&first).chain(arcs.iter().skip(2)) {
        let groups = (64 - arc.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let bits = (arc >> (7 * group)) as u8 & 0x7f;
            content.push(if group == 0 { bits } else { bits | 0x80 });
        }
    }
    element(OID, &content)
}

/// The dotted form of an OBJECT IDENTIFIER's content, for messages; hexadecimal where it is none.
pub(super) fn oid_text(content: &[u8]) -> String {
    let mut arcs = Vec::new();
    let mut arc = 0u64;
    for octet in content {
        if arc >> 57 != 0 {
            return crate::pki::hex(content);
        }
        arc = (arc << 7) | u64::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            arcs.push(arc);
            arc = 0;
        }
    }
    let (Some((first, rest)), Some(0..=0x7f)) = (arcs.split_first(), content.last()) else {
        return crate::pki::hex(content);
    };
    let top = (first / 40).min(2);
    let arcs = [top, first - 40 * top].into_iter().chain(rest.iter().copied());
    arcs.map(|arc| arc.to_string()).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_definite_and_minimal_or_refused() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let der = element(OCTET_STRING, &vec![7; length]);
            let mut reader = Reader::new(&der);
            assert_eq!(reader.expect(OCTET_STRING).map(|e| e.content.len()), Ok(length));
            assert_eq!(reader.finish(), Ok(()));
        }
        // The longest of three octets, and the shortest of four.
        for length in [0xff_ffff, 0x100_0000] {
            let der = element(OCTET_STRING, &vec![7; length]);
            assert_eq!(Reader::new(&der).expect(OCTET_STRING).map(|e| e.content.len()), Ok(length));
        }
        for (wrong, why) in [
            (&[0x04, 0x80, 0, 0][..], DerError::Length),
            (&[0x04, 0x81, 0x01, 7], DerError::Length),
            (&[0x04, 0x82, 0x00, 0x80], DerError::Length),
            (&[0x04, 0x02, 7], DerError::Length),
            (&[0x04, 0x84, 0, 0, 0, 1, 7], DerError::Length),
            (&[0x04, 0x84, 1, 0, 0, 0, 7], DerError::Length),
            (&[0x04, 0x85, 1, 0, 0, 0, 0, 7], DerError::Length),
            (&[0x04, 0x82, 0x01], DerError::Truncated),
            (&[0x04], DerError::Truncated),
            (&[], DerError::Truncated),
            (&[0x1f, 0x01, 0], DerError::UnexpectedTag),
        ] {
            assert_eq!(Reader::new(wrong).element().map(|e| e.tag), Err(why), "{wrong:02x?}");
        }
    }

    #[test]
    fn integers_are_minimal_and_not_negative() {
        let read = |content: &[u8]| Reader::new(&element(INTEGER, content)).unsigned().map(<[u8]>::to_vec);
        assert_eq!(read(&[0]), Ok(vec![0]));
        assert_eq!(read(&[0x7f]), Ok(vec![0x7f]));
        assert_eq!(read(&[0, 0x80]), Ok(vec![0x80]));
        for wrong in [&[][..], &[0x80], &[0, 0], &[0, 0x7f], &[0xff, 0xff]] {
            assert_eq!(read(wrong), Err(DerError::Integer), "{wrong:02x?}");
        }
    }

    #[test]
    fn object_identifiers_are_written_in_base_128() {
        let written = |text: &str| oid_arcs(text).map(|arcs| oid(&arcs));
        assert_eq!(
            written("1.2.840.113549.1.9.14"),
            Some(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e".to_vec())
        );
        assert_eq!(written("2.23.140.1.2.1"), Some(b"\x06\x06\x67\x81\x0c\x01\x02\x01".to_vec()));
        assert_eq!(written("2.999.0"), Some(b"\x06\x03\x88\x37\x00".to_vec()));
        for text in ["1.2.840.113549.1.9.14", "2.23.140.1.2.1", "2.999.0", "1.3.6.1.5.5.7.1.24", "0.39"] {
            let der = oid(&oid_arcs(text).unwrap());
            assert_eq!(oid_text(&der[2..]), text);
        }
        for wrong in [&[][..], &[0x80], &[0x2a, 0x86], &[0xff; 12]] {
            assert_eq!(oid_text(wrong), crate::pki::hex(wrong));
        }
        for wrong in ["", "1", "3.1", "1.40", "1.2.", "1..2", "1.2.x", "1.2.03", "1.2.99999999999999999999"] {
            assert_eq!(written(wrong), None, "{wrong}");
        }
    }
}
