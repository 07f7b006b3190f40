//! Reading one DNS answer: which records it holds for a question, or where its aliases (CNAME) lead. Pure, so that it
//! can be fed anything.

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use thiserror::Error;

/// How many aliases are followed for one lookup, over all its answers.
pub const MAX_ALIASES: usize = 10;
/// How many records of one set are taken. A DNS message holds not many more.
pub const MAX_RECORDS: usize = 1024;

/// One CAA record (RFC 8659 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaaRecord {
    /// Whether an issuer that does not know the tag must refuse.
    pub critical: bool,
    /// The property's tag, in letters and digits, as spelled.
    pub tag: String,
    /// The property's value, uninterpreted.
    pub value: Vec<u8>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The records asked for; never empty.
    Found(Vec<RData>),
    /// An alias to a name whose records are not in this answer.
    Alias {
        /// The name to ask for next.
        target: Name,
        /// How many aliases lead there.
        hops: usize,
    },
    /// There are none.
    Nothing,
}

/// Why an answer cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AnswerError {
    /// Aliases that lead nowhere.
    #[error("its aliases (CNAME) form a loop or too long a chain")]
    AliasChain,
    /// A response code other than success and NXDOMAIN.
    #[error("the name server answered {0}")]
    Code(String),
    /// More records than anyone needs.
    #[error("the answer has more than {MAX_RECORDS} records")]
    TooManyRecords,
    /// Not a DNS message, or no question in it.
    #[error("the answer is not a DNS message")]
    Unreadable,
}

/// Reads what `message` says of the records of type `kind` at `name`. Only records that belong to the name, or to what
/// its aliases lead to, count; anything else in the answer is passed over.
pub fn read(message: &Message, name: &Name, kind: RecordType) -> Result<Step, AnswerError> {
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        other => return Err(AnswerError::Code(other.to_string())),
    }
    let mut current = name.clone();
    for hops in 0..=MAX_ALIASES {
        let at_current = || message.answers.iter().filter(|record| record.name == current);
        let found: Vec<RData> = at_current()
            .filter(|record| record.record_type() == kind)
            .map(|record| record.data.clone())
            .collect();
        if found.len() > MAX_RECORDS {
            return Err(AnswerError::TooManyRecords);
        }
        if !found.is_empty() {
            return Ok(Step::Found(found));
        }
        let alias = at_current().find_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        });
        match alias {
            Some(target) => current = target,
            None if hops == 0 => return Ok(Step::Nothing),
            None => return Ok(Step::Alias { target: current, hops }),
        }
    }
    Err(AnswerError::AliasChain)
}

/// The values of TXT records, the strings of each joined (RFC 8555 §8.4).
pub fn txt_values(records: &[RData]) -> Vec<Vec<u8>> {
    let value = |record: &RData| match record {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    };
    records.iter().filter_map(value).collect()
}

/// The CAA records among `records`.
pub fn caa_values(records: &[RData]) -> Vec<CaaRecord> {
    let value = |record: &RData| match record {
        RData::CAA(caa) => {
            Some(CaaRecord { critical: caa.issuer_critical, tag: caa.tag.clone(), value: caa.value.clone() })
        }
        _ => None,
    };
    records.iter().filter_map(value).collect()
}

/// The CAA records that a message in wire form holds for its own question; empty where it says that there are none.
pub fn caa_of_wire(bytes: &[u8]) -> Result<Vec<CaaRecord>, AnswerError> {
    let message = Message::from_vec(bytes).map_err(|_| AnswerError::Unreadable)?;
    let question = message.queries.first().ok_or(AnswerError::Unreadable)?;
    match read(&message, question.name(), RecordType::CAA)? {
        Step::Found(records) => Ok(caa_values(&records)),
        Step::Alias { .. } | Step::Nothing => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::OpCode;
    use hickory_resolver::proto::rr::Record;
    use hickory_resolver::proto::rr::rdata::{A, CNAME, TXT};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn message(records: &[(&str, RData)]) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        for (owner, data) in records {
            message.add_answer(Record::from_rdata(name(owner), 1, data.clone()));
        }
        message
    }

    fn cname(target: &str) -> RData {
        RData::CNAME(CNAME(name(target)))
    }

    fn txt(text: &str) -> RData {
        RData::TXT(TXT::new(vec![text.to_owned()]))
    }

    #[test]
    fn aliases_are_followed_in_any_order_and_case_and_strangers_passed_over() {
        let answer = message(&[
            ("c.test.", txt("right")),
            ("x.test.", txt("a stranger's")),
            ("B.test.", cname("C.TEST.")),
            ("a.test.", cname("b.test.")),
            ("c.test.", RData::A(A::new(192, 0, 2, 1))),
        ]);
        let step = read(&answer, &name("A.test."), RecordType::TXT);
        assert_eq!(step, Ok(Step::Found(vec![txt("right")])));
        let step = read(&answer, &name("a.test."), RecordType::CAA);
        assert_eq!(step, Ok(Step::Alias { target: name("c.test."), hops: 2 }));
        assert_eq!(read(&answer, &name("y.test."), RecordType::TXT), Ok(Step::Nothing));
    }

    #[test]
    fn aut_14_alias_loops_are_an_error_and_not_an_empty_answer() {
        let answer = message(&[("a.test.", cname("b.test.")), ("b.test.", cname("a.test."))]);
        assert_eq!(read(&answer, &name("a.test."), RecordType::CAA), Err(AnswerError::AliasChain));
    }

    #[test]
    fn aut_14_an_unknown_response_code_is_an_error_and_not_an_empty_answer() {
        for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::Unknown(4000)] {
            let mut answer = message(&[]);
            answer.metadata.response_code = code;
            let step = read(&answer, &name("a.test."), RecordType::CAA);
            assert!(matches!(step, Err(AnswerError::Code(_))), "{step:?}");
        }
    }
}
