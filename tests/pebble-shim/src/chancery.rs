//! Chancery as a child process on a folder of its own; neither outlives the shim, however that ends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use crate::Failure;
use crate::authority::Authority;
use crate::settings::Plan;

/// Reads process ids from its standard input; when that closes, which it does when the shim is gone, it kills the last
/// one and removes the folder. A suite ends Pebble by SIGKILL: nothing in the shim could clean up.
const KEEPER: &str = r#"trap : TERM INT HUP; last=; while read -r pid; do last=$pid; done
    [ -z "$last" ] || kill -KILL "$last" 2>/dev/null; rm -rf -- "${1:?}""#;

/// How long Chancery may take to become ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the child's state lies, and where it listens.
pub(crate) struct Home {
    folder: PathBuf,
    acme: SocketAddr,
    operations: SocketAddr,
}

impl Home {
    /// Makes the folder, and finds free ports.
    pub(crate) fn make() -> Result<Self, Failure> {
        let id = std::process::id();
        let folder = std::env::temp_dir().join(format!("chancery-pebble-{id}"));
        // One that a process of the same id left behind when the machine stopped.
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        // An address that is this process's alone: between looking for a free port and taking it, nobody else does.
        let [_, high, middle, low] = id.to_be_bytes();
        let address = IpAddr::V4(Ipv4Addr::new(127, 64 + (high & 63), middle, low));
        let (one, other) = (TcpListener::bind((address, 0))?, TcpListener::bind((address, 0))?);
        Ok(Self { folder, acme: one.local_addr()?, operations: other.local_addr()? })
    }

    /// Where Chancery serves ACME, without TLS.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.acme
    }

    /// Its database.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("data/chancery.sqlite")
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Writes the authority's files and the configuration.
    fn furnish(&self, plan: &Plan, authority: &Authority) -> Result<(), Failure> {
        let quoted = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
        let certificate = self.write("issuing.pem", &authority.issuing)?;
        let key = self.write("issuing.key", &authority.issuing_key)?;
        let mut chains = Vec::new();
        for (index, chain) in authority.chains.iter().enumerate() {
            chains.push(quoted(&self.write(&format!("chain-{index}.pem"), chain)?));
        }
        // What is at the top of a TOML file comes first.
        let text = format!(
            "listen = \"{}\"\ndata_dir = {}\n{}[ops]\nlisten = \"{}\"\n[tls]\nmode = \"off\"\n\
             [ca]\nlisten = \"off\"\ncert = {}\nkey = {}\nchain = [{}]\n",
            self.acme,
            quoted(&self.folder.join("data")),
            plan.toml,
            self.operations,
            quoted(&certificate),
            quoted(&key),
            chains.join(", "),
        );
        self.write("config.toml", &text).map(|_| ())
    }

    fn command(&self, arguments: &[&str]) -> Result<Command, Failure> {
        let mut command = Command::new(program()?);
        command.args(arguments).arg("--config").arg(self.folder.join("config.toml"));
        // A CHANCERY_ variable of whoever runs the suite is not meant for this one.
        command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// Runs a command of Chancery's that ends by itself.
    async fn finish(&self, arguments: &[&str]) -> Result<(), Failure> {
        let output = self.command(arguments)?.output().await?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(format!("chancery {}: {}", arguments[0], text.trim_end()).into())
    }

    /// Hands Chancery the HMAC keys of the suite.
    async fn take_over(&self, plan: &Plan) -> Result<(), Failure> {
        for (index, (kid, secret)) in plan.mac_keys.iter().enumerate() {
            let file = self.write(&format!("mac-{index}"), secret)?;
            let file = file.display().to_string();
            let uses = ["--uses", "unlimited"];
            self.finish(&[&["eab", "create", "--kid", kid, "--secret-file", &file], &uses[..]].concat())
                .await?;
        }
        Ok(())
    }
}

/// The program beside this one, or the one that `CHANCERY_TEST_PROGRAM` names.
fn program() -> Result<PathBuf, Failure> {
    let beside = || Ok::<_, Failure>(std::env::current_exe()?.with_file_name("chancery"));
    let program = std::env::var_os("CHANCERY_TEST_PROGRAM").map_or_else(beside, |path| Ok(path.into()))?;
    if program.is_file() {
        return Ok(program);
    }
    Err(format!("there is no {}; `cargo build` makes it", program.display()).into())
}

/// Starts Chancery and waits for its end, which is a failure. `ready` becomes true when it takes requests.
pub(crate) async fn run(
    plan: &Plan,
    home: &Home,
    authority: &Authority,
    resolver: Option<SocketAddr>,
    ready: watch::Sender<bool>,
) -> Result<(), Failure> {
    let mut keeper = keeper(&home.folder)?;
    home.furnish(plan, authority)?;
    home.finish(&["check"]).await?;
    home.take_over(plan).await?;
    let mut command = home.command(&["serve"])?;
    command.envs(resolver.map(|address| ("CHANCERY_VALIDATION_DNS_SERVERS", address.to_string())));
    let mut child = command.spawn()?;
    let pid = child.id().ok_or("chancery has ended")?;
    keeper.write_all(format!("{pid}\n").as_bytes()).await?;
    tokio::select! {
        () = wait_until_ready(home.operations) => {}
        status = child.wait() => return Err(format!("chancery ended before it was ready: {}", status?).into()),
        () = tokio::time::sleep(PATIENCE) => return Err("chancery did not become ready in time".into()),
    }
    println!("Pebble (Chancery): ready");
    ready.send_replace(true);
    Err(format!("chancery ended: {}", end(&mut child).await?).into())
}

async fn end(child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
    child.wait().await
}

fn keeper(folder: &Path) -> Result<ChildStdin, Failure> {
    let mut keeper = Command::new("/bin/sh");
    keeper.args(["-c", KEEPER, "keeper"]).arg(folder).env("PATH", "/usr/bin:/bin");
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    keeper.spawn()?.stdin.take().ok_or_else(|| "the keeper has no standard input".into())
}

async fn wait_until_ready(operations: SocketAddr) {
    while !is_ready(operations).await.unwrap_or(false) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn is_ready(operations: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(operations).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: chancery\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
