//! JSON objects in which no member may appear twice, however deep (RFC 7515 §4, §10.12).

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::acme::problem::printable;
use crate::jose::Error;

/// How much of a stranger's text is repeated to the stranger.
pub(super) const SHOWN: usize = 40;

/// Reads `text`, which must be one JSON object and nothing else but white space. `part` begins the error's
/// sentence. Depth is bounded by `serde_json` (128), size by the caller.
pub(super) fn object(text: &[u8], part: &'static str) -> Result<Map<String, Value>, Error> {
    let mut duplicate = None;
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Unique { duplicate: &mut duplicate }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    match (value, duplicate) {
        (_, Some(name)) => Err(Error::DuplicateMember(printable(name.as_bytes(), SHOWN))),
        (Ok(Value::Object(members)), None) => Ok(members),
        _ => Err(Error::NotAnObject(part)),
    }
}

/// Builds a [`Value`], stopping at the first member that its object already has.
struct Unique<'a> {
    duplicate: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(Unique { duplicate: self.duplicate })? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                *self.duplicate = Some(name);
                return Err(de::Error::custom("duplicate member"));
            }
            let value = members.next_value_seed(Unique { duplicate: self.duplicate })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jws_09_a_member_twice_is_refused_at_any_depth_and_by_any_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":null}}"#,
            r#"{"x":[[{"a":1,"b":2,"a":3}]]}"#,
            r#"{"a":1,"a":"#,
        ] {
            assert_eq!(object(text.as_bytes(), "x"), Err(Error::DuplicateMember("a".into())), "{text}");
        }
        let same_name_elsewhere = br#"{"a":{"a":[{"a":1},{"a":2}]},"b":-1.5e3,"c":[true,null,""]}"#;
        let read = object(same_name_elsewhere, "x").map(Value::Object);
        assert_eq!(read, Ok(serde_json::from_slice(same_name_elsewhere).unwrap()));
    }

    #[test]
    fn only_one_whole_object_is_read() {
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        for text in
            ["", "[]", "1", "null", "{}{}", "{} x", "{", r#"{"a":1,}"#, "a.b.c", "{\"a\":\"\u{1}\"}", &deep]
        {
            assert_eq!(object(text.as_bytes(), "x"), Err(Error::NotAnObject("x")), "{text:.20}");
        }
        assert_eq!(object(b" \r\n\t{ } \n", "x"), Ok(Map::new()));
        assert_eq!(object(b"{\"\xff\":1}", "x"), Err(Error::NotAnObject("x")));
    }
}
