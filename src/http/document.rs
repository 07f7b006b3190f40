//! An answer that is the same for everybody: kept in memory, shared by all who read it, and told to be unchanged to who
//! has it already (RFC 9110 §13, RFC 9111).

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;

use super::envelope::Shared;
use crate::acme::time::Timestamp;

/// The octets, and what caches are told of them.
#[derive(Clone, Debug)]
pub(super) struct Document {
    octets: Bytes,
    media_type: &'static str,
    /// Its entity tag, in quotes.
    tag: String,
    /// When it was made, where that is told.
    modified: Option<SystemTime>,
    /// How long it may be used without asking again.
    max_age: Duration,
}

impl Document {
    /// A document whose tag follows from its octets.
    pub(super) fn new(octets: impl Into<Bytes>, media_type: &'static str, max_age: Duration) -> Self {
        let octets = octets.into();
        let hash = digest(&SHA256, &octets);
        let tag: String = hash.as_ref().iter().take(12).map(|octet| format!("{octet:02x}")).collect();
        Self { octets, media_type, tag: format!("\"{tag}\""), modified: None, max_age }
    }

    /// A document that has a name for each of its states, and was made at a time.
    pub(super) fn of_edition(
        octets: Bytes,
        media_type: &'static str,
        max_age: Duration,
        edition: &str,
        modified: Timestamp,
    ) -> Self {
        let modified = Some(modified.to_datetime().into());
        Self { octets, media_type, tag: format!("\"{edition}\""), modified, max_age }
    }

    /// All of it, with nothing said about caches: the answer to a POST.
    pub(super) fn plain(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.octets.clone()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        response.extensions_mut().insert(Shared);
        response
    }

    /// The answer to a GET or HEAD: all of it, or 304 where the client has it.
    pub(super) fn answer(&self, asked: &HeaderMap) -> Response<Body> {
        let mut response = if self.is_known(asked) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            self.plain()
        };
        let mut tell = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        };
        tell(header::ETAG, self.tag.clone());
        tell(header::CACHE_CONTROL, format!("public, max-age={}", self.max_age.as_secs()));
        if let Some(modified) = self.modified {
            tell(header::LAST_MODIFIED, httpdate::fmt_http_date(modified));
        }
        response
    }

    /// RFC 9110 §13.2.2: a tag decides, and a date only where no tag was sent.
    fn is_known(&self, asked: &HeaderMap) -> bool {
        let mut tags = asked.get_all(header::IF_NONE_MATCH).iter().peekable();
        if tags.peek().is_some() {
            // Our tags have no comma in them.
            let mut tags = tags.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
            // §13.1.2: compared weakly.
            return tags.any(|tag| {
                let tag = tag.trim();
                tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.tag
            });
        }
        let since = asked.get(header::IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
        let since = since.and_then(|value| httpdate::parse_http_date(value).ok());
        self.modified.zip(since).is_some_and(|(modified, since)| modified <= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: Timestamp = Timestamp::from_seconds(784_111_777);

    fn document() -> Document {
        let octets = Bytes::from_static(b"list");
        Document::of_edition(octets, "application/pkix-crl", Duration::from_secs(60), "7-a", MADE)
    }

    fn status(headers: &[(HeaderName, &str)]) -> u16 {
        let mut asked = HeaderMap::new();
        for (name, value) in headers {
            asked.append(name, HeaderValue::from_str(value).unwrap());
        }
        document().answer(&asked).status().as_u16()
    }

    #[test]
    fn who_has_it_is_told_that_it_has_not_changed() {
        let tag = header::IF_NONE_MATCH;
        for (value, expected) in [
            ("\"7-a\"", 304),
            ("W/\"7-a\"", 304),
            ("\"6-a\", \"7-a\"", 304),
            ("*", 304),
            ("\"6-a\"", 200),
            ("7-a", 200),
        ] {
            assert_eq!(status(&[(tag.clone(), value)]), expected, "{value}");
        }
        assert_eq!(status(&[(tag.clone(), "\"6-a\""), (tag, "\"7-a\"")]), 304);
    }

    #[test]
    fn a_date_counts_where_there_is_no_tag() {
        let since = header::IF_MODIFIED_SINCE;
        assert_eq!(status(&[(since.clone(), "Sun, 06 Nov 1994 08:49:37 GMT")]), 304);
        assert_eq!(status(&[(since.clone(), "Sun, 06 Nov 1994 08:49:36 GMT")]), 200);
        assert_eq!(status(&[(since.clone(), "yesterday")]), 200);
        let both = [(since, "Sun, 06 Nov 1994 08:49:37 GMT"), (header::IF_NONE_MATCH, "\"6-a\"")];
        assert_eq!(status(&both), 200);
    }

    #[test]
    fn caches_are_told_how_long_and_all_share_the_octets() {
        let document = document();
        let answer = document.answer(&HeaderMap::new());
        let told = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(told(header::ETAG), Some("\"7-a\""));
        assert_eq!(told(header::CACHE_CONTROL), Some("public, max-age=60"));
        assert_eq!(told(header::LAST_MODIFIED), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        let (one, other) = (Document::new("a", "text/plain", Duration::ZERO), document.clone());
        assert_ne!(one.tag, Document::new("b", "text/plain", Duration::ZERO).tag);
        assert_eq!(other.octets.as_ptr(), document.octets.as_ptr());
    }
}
