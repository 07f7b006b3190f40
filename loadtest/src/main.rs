//! A load generator that speaks signed ACME (RFC 8555): whole issuances against several replicas without
//! affinity, with its own challenge responders, in a closed or an open loop. `README.md` says how to read
//! what it prints.

mod accounting;
mod arguments;
mod client;
mod comparison;
mod csr;
mod failure;
mod flow;
mod histogram;
mod jws;
mod nonces;
mod recorder;
mod report;
mod responders;
mod run;
mod step;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let threads = match &arguments.command {
        Command::Run(run) => run.common.threads,
        Command::Nonces(nonces) => nonces.common.threads,
        Command::Compare(_) => 1,
    };
    // One thread without a scheduler between cores costs least, and the generator shares the machine with the
    // server.
    let runtime = if threads <= 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
    };
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match arguments.command {
                Command::Run(run) => run::run(run).await,
                Command::Nonces(nonces) => nonces::run(nonces).await,
                Command::Compare(compare) => comparison::run(&compare),
            }
        }),
        Err(error) => Err(failure::Failure::Setup(format!("no runtime: {error}"))),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("chancery-loadtest: {failure}");
            ExitCode::from(2)
        }
    }
}
