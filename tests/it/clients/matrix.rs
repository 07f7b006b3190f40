//! Which client does what against the fleet, and how long it takes: the table of docs/clients.md, which
//! `make test-clients` writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::clients::site::Site;
use crate::floors::files_under;
use crate::support::chancery::Kind;

/// One thing that a client can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// A new account.
    Register,
    /// A certificate by http-01.
    Http01,
    /// A certificate by tls-alpn-01.
    TlsAlpn01,
    /// A certificate by dns-01, its record set by a hook.
    Dns01,
    /// A certificate by dns-01, its record set by a dynamic update (RFC 2136).
    Rfc2136,
    /// A certificate of a profile that trusts the account.
    Trusted,
    /// One certificate for several names.
    SeveralNames,
    /// A certificate for a wildcard.
    Wildcard,
    /// A certificate for an IP address (RFC 8738).
    Address,
    /// Another certificate in the first one's place, from the account of the first.
    Renew,
    /// A renewal because renewal information says so (RFC 9773).
    RenewByAri,
    /// A revocation that shows in the CRL.
    Revoke,
    /// A new account with an external account binding.
    Eab,
    /// An order that names a profile.
    Profile,
}

use Flow::{
    Address, Dns01, Eab, Http01, Profile, Register, Renew, RenewByAri, Revoke, Rfc2136, SeveralNames,
    TlsAlpn01, Trusted, Wildcard,
};

/// The columns of the table.
const COLUMNS: [(Flow, &str); 14] = [
    (Register, "account"),
    (Http01, "http-01"),
    (TlsAlpn01, "tls-alpn-01"),
    (Dns01, "dns-01, hook"),
    (Rfc2136, "dns-01, RFC 2136"),
    (Trusted, "trusted"),
    (SeveralNames, "several names"),
    (Wildcard, "wildcard"),
    (Address, "IP"),
    (Renew, "renew"),
    (RenewByAri, "renew by ARI"),
    (Revoke, "revoke"),
    (Eab, "EAB"),
    (Profile, "profile"),
];

/// Clients that cannot run here, and why.
const NOT_RUN: [(&str, &str); 5] = [
    ("acme4j 5", "the registry used here has 4.0.0 and no later one"),
    ("acme.sh", "in no package registry; only from its own repository"),
    ("Posh-ACME", "needs PowerShell, which neither Debian nor a registry used here has"),
    ("simple-acme, win-acme", "need Windows or .NET"),
    ("Traefik", "its module does not build by itself; its ACME client is lego, as a library"),
];

/// A client at a site.
pub struct Judge<'s> {
    site: &'s Site,
    name: &'static str,
    version: String,
}

impl<'s> Judge<'s> {
    /// The client `name` in `version`, as the table shows them.
    pub fn new(site: &'s Site, name: &'static str, version: &str) -> Self {
        Self { site, name, version: version.to_owned() }
    }

    /// Does what shows that the client can do `flows`; the time it takes is that of each of them. Recorded where
    /// `CHANCERY_TEST_CLIENTS_RECORD` names a folder, against the fleet, and only if `action` does not panic.
    pub fn does<T>(&self, flows: &[Flow], action: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = action();
        let seconds = start.elapsed().as_secs_f64();
        println!("{} {}: {flows:?} in {seconds:.1} s", self.name, self.version);
        if self.site.kind() != Kind::Fleet {
            return result;
        }
        let Some(folder) = std::env::var_os("CHANCERY_TEST_CLIENTS_RECORD") else { return result };
        let flows: Vec<_> = flows.iter().map(|flow| format!("{flow:?}")).collect();
        let line = json!({"client": self.name, "version": self.version, "flows": flows, "seconds": seconds});
        let file = std::fs::File::options().create(true).append(true).open(Path::new(&folder).join("flows"));
        // One write, so that lines of clients that run at the same time stay whole.
        file.expect("the record").write_all(format!("{line}\n").as_bytes()).expect("written");
        result
    }
}

/// The table of what was recorded: a row a client and version, in seconds; a flow done several times shows the first.
fn table(record: &str) -> String {
    let mut rows: BTreeMap<(String, String), BTreeMap<String, f64>> = BTreeMap::new();
    for line in record.lines() {
        let line: Value = serde_json::from_str(line).expect("a line of the record");
        let text = |member: &str| line[member].as_str().expect("text").to_owned();
        let row = rows.entry((text("client"), text("version"))).or_default();
        for flow in line["flows"].as_array().expect("flows") {
            let flow = flow.as_str().expect("text").to_owned();
            row.entry(flow).or_insert_with(|| line["seconds"].as_f64().expect("seconds"));
        }
    }
    let headings: Vec<_> = COLUMNS.iter().map(|(_, heading)| *heading).collect();
    let mut text = format!("| client | version | {} |\n", headings.join(" | "));
    text += &format!("|{}\n", " --- |".repeat(COLUMNS.len() + 2));
    for ((client, version), done) in &rows {
        write!(text, "| {client} | {version} |").expect("a string");
        for (flow, _) in COLUMNS {
            match done.get(&format!("{flow:?}")) {
                Some(seconds) => write!(text, " {seconds:.1} |").expect("a string"),
                None => text += " – |",
            }
        }
        text.push('\n');
    }
    text += "\nNot run:\n\n| client | why |\n| --- | --- |\n";
    for (client, why) in NOT_RUN {
        writeln!(text, "| {client} | {why} |").expect("a string");
    }
    text
}

const BEGIN: &str = "<!-- From here on by `make test-clients`. -->\n";
const END: &str = "<!-- To here. -->\n";

/// Writes the table of the run before it into docs/clients.md.
#[test]
#[ignore = "the last step of `make test-clients`"]
fn the_table_is_written() {
    let folder = std::env::var("CHANCERY_TEST_CLIENTS_RECORD").expect("`make test-clients` sets it");
    let record = std::fs::read_to_string(Path::new(&folder).join("flows")).expect("a record");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md");
    let text = std::fs::read_to_string(&page).expect("the page");
    let (before, rest) = text.split_once(BEGIN).expect("where the table begins");
    let (_, after) = rest.split_once(END).expect("where the table ends");
    let now = time::OffsetDateTime::now_utc();
    let cores = std::thread::available_parallelism().expect("cores");
    let caption = format!("On {}, on {cores} cores that everything shares; seconds.\n\n", now.date());
    std::fs::write(&page, format!("{before}{BEGIN}{caption}{}{END}{after}", table(&record)))
        .expect("written");
}

#[test]
fn the_table_has_a_row_a_client_and_a_column_a_flow() {
    let record = "{\"client\":\"lego\",\"version\":\"4.9.1\",\"flows\":[\"Register\",\"Http01\"],\"seconds\":1.26}\n\
                  {\"client\":\"lego\",\"version\":\"4.9.1\",\"flows\":[\"Http01\"],\"seconds\":9}\n\
                  {\"client\":\"certbot\",\"version\":\"5.8.0\",\"flows\":[\"Revoke\"],\"seconds\":2}\n";
    let table = table(record);
    let dashes = |count| " – |".repeat(count);
    assert!(
        table.contains(&format!("\n| certbot | 5.8.0 |{} 2.0 |{}\n| lego", dashes(11), dashes(2))),
        "{table}"
    );
    assert!(table.contains(&format!("\n| lego | 4.9.1 | 1.3 | 1.3 |{}\n", dashes(12))), "{table}");
    let page = include_str!("../../../docs/clients.md");
    let written =
        page.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).expect("the table's place").0;
    for (_, heading) in COLUMNS {
        assert!(written.is_empty() || written.contains(&format!("| {heading} |")), "{heading}");
    }
}

#[test]
fn every_client_that_is_judged_has_a_row() {
    let page = include_str!("../../../docs/clients.md");
    let table = page.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).expect("its place").0;
    let mut names = BTreeSet::new();
    for file in files_under(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients")) {
        let text = std::fs::read_to_string(file).expect("readable");
        // Written apart, so that this line is none of those that it looks for.
        let judges = text.split(concat!("Judge::", "new(")).skip(1);
        names.extend(judges.filter_map(|rest| rest.split(')').next()?.split('"').nth(1)).map(str::to_owned));
    }
    assert!(names.len() >= 4, "they were found: {names:?}");
    for name in names {
        assert!(table.is_empty() || table.contains(&format!("\n| {name} | ")), "{name}: `make test-clients`");
    }
}
