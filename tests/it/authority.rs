//! `chancery ca init` and the authority that it makes: written where all other commands look, and taken from there.

use crate::support::chancery::{Deployment, Kind, refused, run};
use crate::support::run::folder;

type Environment = Vec<(String, String)>;

fn environment(pairs: &[(&str, String)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

#[test]
fn ca_init_writes_into_the_data_folder_of_the_environment_the_file_and_the_flag() {
    let home = folder("ca-init");
    let shown = |name: &str| home.join(name).display().to_string();
    run(&["ca", "init"], &environment(&[("CHANCERY_DATA_DIR", shown("by-environment"))]));
    let file = home.join("chancery.toml");
    std::fs::write(&file, format!("data_dir = {:?}\n", shown("by-file"))).expect("written");
    run(&["ca", "init", "--config", &file.display().to_string()], &[]);
    run(
        &["ca", "init"],
        &environment(&[
            ("CHANCERY_CONFIG", file.display().to_string()),
            ("CHANCERY_DATA_DIR", shown("over-file")),
        ]),
    );
    let by_flag = ["ca", "init", "--data-dir", &shown("by-flag")].map(str::to_owned);
    run(&by_flag.each_ref().map(String::as_str), &environment(&[("CHANCERY_DATA_DIR", shown("unused"))]));
    for made in ["by-environment", "by-file", "over-file", "by-flag"] {
        for file in ["root.pem", "root.key", "issuing.pem", "issuing.key"] {
            assert!(home.join(made).join(file).is_file(), "{made}/{file}");
        }
    }
    assert!(!home.join("unused").exists());
    let again = refused(&["ca", "init"], &environment(&[("CHANCERY_DATA_DIR", shown("by-file"))]));
    assert!(again.contains("nothing was changed"), "{again}");
    let unknown = refused(&["ca", "init"], &environment(&[("CHANCERY_DATADIR", shown("by-typo"))]));
    assert!(unknown.contains("CHANCERY_DATADIR"), "{unknown}");
}

#[test]
fn a_fleet_takes_what_ca_init_made_and_is_told_what_to_do_where_it_made_nothing() {
    let server = Deployment::shared(Kind::Fleet);
    let home = folder("fleet-authority").join("data");
    let fleet = environment(&[
        ("CHANCERY_DATABASE_URL", server.database().expect("a fleet").to_owned()),
        ("CHANCERY_REDIS_URL", server.redis().expect("a fleet").url()),
        ("CHANCERY_DATA_DIR", home.display().to_string()),
    ]);
    let told = refused(&["migrate"], &fleet);
    let command = format!("`chancery ca init --data-dir {}` once", home.display());
    assert!(told.contains(&command) && told.contains("lacks root.pem, issuing.pem, issuing.key"), "{told}");
    assert!(!home.exists(), "nothing was made on the way");
    // With the environment of the fleet, which is not complete before it.
    run(&["ca", "init"], &fleet);
    run(&["migrate"], &fleet);
    run(&["check"], &fleet);
    // The root's key is offline, as the command says.
    std::fs::remove_file(home.join("root.key")).expect("removed");
    run(&["check"], &fleet);
    std::fs::remove_file(home.join("root.pem")).expect("removed");
    let told = refused(&["check"], &fleet);
    assert!(told.contains("lacks root.pem: each replica"), "{told}");
}
