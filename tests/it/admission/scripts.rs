//! Each file in `lua/` keeps to the conventions in `lua/README.md`.

#[test]
fn every_script_says_what_it_is_given() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/lua");
    let readme = std::fs::read_to_string(format!("{folder}/README.md")).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "lua") {
            continue;
        }
        count += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() <= 40, "{name} is too long");
        let (header, body): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("--"));
        let (header, body) = (header.join("\n"), body.join("\n"));
        // A script that takes any number of keys reads them in a loop.
        let any = header.contains("\n-- KEYS any number");
        for word in ["-- Caller: ", "-- KEYS ", "-- ARGV ", "-- Result: ", "-- TTL: "] {
            assert!(header.contains(word), "{name} has no {word}");
        }
        let highest = |array: &str| {
            (1..10).filter(|index| body.contains(&format!("{array}[{index}]"))).max().unwrap_or(0)
        };
        let told = |array: &str| {
            let line = header.lines().find_map(|line| line.strip_prefix(&format!("-- {array} "))).unwrap();
            (1..10)
                .take_while(|index| {
                    let label = format!("{index}: ");
                    line.starts_with(&label)
                        || line.contains(&format!("; {label}"))
                        || line.starts_with(&format!("{index} "))
                })
                .count()
        };
        for array in ["KEYS", "ARGV"] {
            assert_eq!(told(array), highest(array), "{name}: {array}");
        }
        assert!(!body.contains("'{nonce}") && !body.contains("'{limits}"), "{name} makes up a key");
        assert_eq!(any, body.contains("ipairs(KEYS)"), "{name}: KEYS");
        let keys = if any { "any".to_owned() } else { told("KEYS").to_string() };
        assert!(readme.contains(&format!("| `{name}` |")), "{name} is not in the README");
        assert!(readme.lines().any(|l| l.contains(name) && l.contains(&format!("| {keys} |"))), "{name}");
        let caller = header.lines().find_map(|line| line.strip_prefix("-- Caller: ")).unwrap();
        let source = caller.split(' ').next().unwrap();
        let source = std::fs::read_to_string(format!("{}/{source}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(source.contains(name), "{name} is not called there");
    }
    assert_eq!(count, 5);
}
