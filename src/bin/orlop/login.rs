//! `orlop login` and `orlop logout`

use std::io::{self, IsTerminal, Read};
use std::process::{Command as Process, Stdio};

use clap::{Arg, ArgMatches, Command};
use orlop::oci::RegistryName;
use orlop::transfer::Credential;
use serde::Serialize;

use crate::args::{value, verb};
use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::{self, Output};
use crate::reference::usage;
use crate::remote::RemoteArgs;
use crate::source::patient;

/// The arguments of both.
#[derive(Debug)]
pub(crate) struct Args {
    registry: String,
    remote: RemoteArgs,
}

fn registry() -> Arg {
    Arg::new("registry").value_name("HOST[:PORT]").help("The registry").required(true)
}

pub(crate) fn login_command() -> Command {
    verb(
        "login",
        "Log in to a registry",
        "The registry is asked first. The credential is kept where docker and podman keep theirs: in the file that \
         --registry-config or REGISTRY_AUTH_FILE names, or in config.json of docker, or with the helper that it names.",
        "orlop login registry.example -u me --password-stdin < password.txt",
    )
    .arg(registry())
    .args(RemoteArgs::declare())
}

pub(crate) fn logout_command() -> Command {
    verb("logout", "Forget the credential of a registry", "", "orlop logout registry.example")
        .arg(registry())
        .args(RemoteArgs::declare())
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self { registry: value(matches, "registry").unwrap_or_default(), remote: RemoteArgs::of(matches) }
    }

    fn name(&self) -> Result<RegistryName, Failure> {
        self.registry
            .parse()
            .map_err(|error| usage(&error).with_hint("give its host alone, as registry.example"))
    }
}

#[derive(Serialize)]
struct Done {
    registry: String,
    /// Where it is kept; none if a helper keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

pub(crate) fn login(args: &Args, output: &Output) -> Result<(), Failure> {
    let registry = args.name()?;
    let credential = match (args.remote.credential(), &args.remote.username) {
        (Err(_), Some(username)) if io::stdin().is_terminal() => {
            Credential::password(username, password(&format!("Password of {username}: "))?)
        }
        (given, _) => given?.ok_or_else(|| {
            Failure::usage("nobody to log in as, option=--username")
                .with_hint("give --username with --password-stdin, or --identity-token-stdin")
        })?,
    };
    // What is kept was taken by the registry.
    args.remote.options()?.credentials(credential.clone()).client().check(&registry)?;
    let files = args.remote.files();
    files.store(&registry, &credential)?;
    let file = files.target().map(|path| path.display().to_string());
    let done = Done { registry: registry.to_string(), file };
    output.result([""; 0], &done, || format!("Logged in to {registry}\n"))
}

pub(crate) fn logout(args: &Args, output: &Output) -> Result<(), Failure> {
    let registry = args.name()?;
    let files = args.remote.files();
    if !files.erase(&registry)? {
        let file = files.target().map(|path| path.display().to_string()).unwrap_or_default();
        return Err(Failure::new(
            Exit::NotFound,
            format!("no credential of the registry is kept, registry={registry}, file={file}"),
        ));
    }
    let done = Done { registry: registry.to_string(), file: None };
    output.result([""; 0], &done, || format!("Logged out of {registry}\n"))
}

/// Asks whoever sits at the terminal, without showing what is typed.
fn password(question: &str) -> Result<String, Failure> {
    interrupt::defer();
    output::stderr(question);
    let Some(silence) = Silence::begin() else {
        return Err(Failure::new(Exit::Other, "cannot keep the terminal from showing the password")
            .with_hint("--password-stdin reads it from a file or a pipe"));
    };
    let stdin = io::stdin();
    let mut line = Vec::new();
    let mut byte = [0];
    let mut reader = patient(&stdin);
    while line.len() < 4096 && reader.read(&mut byte).is_ok_and(|read| read == 1) && byte != *b"\n" {
        line.extend_from_slice(&byte);
    }
    drop(silence);
    output::stderr("\n");
    interrupt::check("nothing was changed")?;
    match String::from_utf8(line) {
        Ok(text) if !text.is_empty() => Ok(text),
        _ => Err(Failure::usage("no password was given")),
    }
}

/// A terminal that shows nothing of what is typed, as long as this lives.
struct Silence;

impl Silence {
    fn begin() -> Option<Self> {
        stty("-echo").then_some(Self)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        stty("echo");
    }
}

fn stty(mode: &str) -> bool {
    let run = Process::new("stty").arg(mode).stdin(Stdio::inherit()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}
