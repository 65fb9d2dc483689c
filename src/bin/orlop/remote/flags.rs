//! How registries are talked to, as oras has it: credentials, certificates, headers.

use std::io::{self, IsTerminal, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use orlop::transfer::{Credential, CredentialFiles, RegistryClient, RegistryOptions};

use crate::args::{flag, option, value, values};
use crate::error::Failure;
use crate::interrupt;

/// How often a wait looks for a signal.
const SLICE: Duration = Duration::from_millis(100);

/// The longest password or token that is read, in bytes.
const MAX_SECRET: u64 = 1 << 20;

/// The options.
#[derive(Clone, Default)]
pub(crate) struct RemoteArgs {
    pub(crate) username: Option<String>,
    password: Option<String>,
    password_stdin: bool,
    identity_token: Option<String>,
    identity_token_stdin: bool,
    files: Vec<PathBuf>,
    ca_file: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    insecure: bool,
    plain_http: bool,
    headers: Vec<String>,
}

impl std::fmt::Debug for RemoteArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteArgs").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What the options of one side of a copy are called.
struct Names {
    heading: &'static str,
    username: &'static str,
    password: &'static str,
    password_stdin: &'static str,
    identity_token: &'static str,
    identity_token_stdin: &'static str,
    registry_config: &'static str,
    ca_file: &'static str,
    cert_file: &'static str,
    key_file: &'static str,
    insecure: &'static str,
    plain_http: &'static str,
    header: &'static str,
}

macro_rules! names {
    ($heading:literal, $prefix:literal) => {
        Names {
            heading: $heading,
            username: concat!($prefix, "username"),
            password: concat!($prefix, "password"),
            password_stdin: concat!($prefix, "password-stdin"),
            identity_token: concat!($prefix, "identity-token"),
            identity_token_stdin: concat!($prefix, "identity-token-stdin"),
            registry_config: concat!($prefix, "registry-config"),
            ca_file: concat!($prefix, "ca-file"),
            cert_file: concat!($prefix, "cert-file"),
            key_file: concat!($prefix, "key-file"),
            insecure: concat!($prefix, "insecure"),
            plain_http: concat!($prefix, "plain-http"),
            header: concat!($prefix, "header"),
        }
    };
}

const ANY: Names = names!("Registries", "");
const FROM: Names = names!("The registry that is copied from, where two are named", "from-");
const TO: Names = names!("The registry that is copied to, where two are named", "to-");

impl RemoteArgs {
    pub(crate) fn declare() -> impl Iterator<Item = Arg> {
        Self::declare_as(&ANY).into_iter().map(|arg| match arg.get_id().as_str() {
            "username" => arg.short('u'),
            "password" => arg.short('p'),
            "header" => arg.short('H'),
            _ => arg,
        })
    }

    /// The same options for each side of a copy.
    pub(crate) fn declare_sides() -> impl Iterator<Item = Arg> {
        // Shown with --help and not with -h: few need them.
        let sides = Self::declare_as(&FROM).into_iter().chain(Self::declare_as(&TO));
        sides.map(|arg| arg.hide_short_help(true))
    }

    fn declare_as(names: &Names) -> [Arg; 12] {
        let path = |name, form, help| option(name, form, help).value_parser(value_parser!(PathBuf));
        [
            option(names.username, "NAME", "The name to log in with"),
            option(names.password, "PASSWORD", "The password; others on this machine can see it")
                .requires(names.username),
            flag(names.password_stdin, "Read the password from stdin").conflicts_with(names.password),
            option(names.identity_token, "TOKEN", "A token that stands for name and password")
                .conflicts_with_all([names.username, names.password, names.password_stdin]),
            flag(names.identity_token_stdin, "Read that token from stdin").conflicts_with_all([
                names.username,
                names.password,
                names.password_stdin,
                names.identity_token,
            ]),
            path(
                names.registry_config,
                "FILE",
                "Use the credentials of this file, instead of docker's and podman's",
            )
            .action(ArgAction::Append),
            path(names.ca_file, "FILE", "Trust the authorities in this file of certificates as well"),
            path(names.cert_file, "FILE", "The certificate to show").requires(names.key_file),
            path(names.key_file, "FILE", "The key of that certificate").requires(names.cert_file),
            flag(names.insecure, "Take any certificate of a registry"),
            flag(names.plain_http, "Speak HTTP to registries, as to those on this machine anyway"),
            option(names.header, "NAME: VALUE", "Add a header to every request").action(ArgAction::Append),
        ]
        .map(|arg| arg.help_heading(names.heading))
    }

    pub(crate) fn of(matches: &ArgMatches) -> Self {
        Self::read(matches, &ANY)
    }

    /// Of the sides of a copy, where it comes from first.
    pub(crate) fn of_sides(matches: &ArgMatches) -> [Self; 2] {
        [&FROM, &TO].map(|names| Self::read(matches, names))
    }

    fn read(matches: &ArgMatches, names: &Names) -> Self {
        let cert_file: Option<PathBuf> = value(matches, names.cert_file);
        Self {
            username: value(matches, names.username),
            password: value(matches, names.password),
            password_stdin: matches.get_flag(names.password_stdin),
            identity_token: value(matches, names.identity_token),
            identity_token_stdin: matches.get_flag(names.identity_token_stdin),
            files: matches.get_many(names.registry_config).into_iter().flatten().cloned().collect(),
            ca_file: value(matches, names.ca_file),
            identity: cert_file.zip(value(matches, names.key_file)),
            insecure: matches.get_flag(names.insecure),
            plain_http: matches.get_flag(names.plain_http),
            headers: values(matches, names.header),
        }
    }

    /// Whether something is said that only the registry that it is meant for may be told, or that protects from others than that.
    pub(crate) fn is_for_one(&self) -> bool {
        let is_told = self.has_credential() || self.identity.is_some() || !self.headers.is_empty();
        is_told || self.insecure || self.plain_http
    }

    /// What is said of one side, and otherwise of any.
    pub(crate) fn or(&self, any: &Self) -> Self {
        let credential = if self.has_credential() { self } else { any };
        Self {
            username: credential.username.clone(),
            password: credential.password.clone(),
            password_stdin: credential.password_stdin,
            identity_token: credential.identity_token.clone(),
            identity_token_stdin: credential.identity_token_stdin,
            files: if self.files.is_empty() { any.files.clone() } else { self.files.clone() },
            ca_file: self.ca_file.clone().or_else(|| any.ca_file.clone()),
            identity: self.identity.clone().or_else(|| any.identity.clone()),
            insecure: self.insecure || any.insecure,
            plain_http: self.plain_http || any.plain_http,
            headers: [&self.headers[..], &any.headers].concat(),
        }
    }

    /// Whether anything is said.
    pub(crate) fn is_used(&self) -> bool {
        self.is_for_one() || self.ca_file.is_some() || !self.files.is_empty()
    }

    /// Refuses what says something of registries where there is none.
    pub(crate) fn check_unused(&self, text: &str) -> Result<(), Failure> {
        if self.is_used() {
            return Err(Failure::usage(format!(
                "options for registries, and none is named, reference={text}"
            ))
            .with_hint("a registry is named by its host: HOST/REPOSITORY:TAG"));
        }
        Ok(())
    }

    fn has_credential(&self) -> bool {
        let token = self.identity_token.is_some() || self.identity_token_stdin;
        self.username.is_some() || self.password_stdin || token
    }

    /// Whether a secret comes from there.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.password_stdin || self.identity_token_stdin
    }

    /// The files of credentials.
    pub(crate) fn files(&self) -> CredentialFiles {
        if self.files.is_empty() {
            CredentialFiles::from_env()
        } else {
            CredentialFiles::new(self.files.clone())
        }
    }

    /// The credential that was given, if one was.
    pub(crate) fn credential(&self) -> Result<Option<Credential>, Failure> {
        if let Some(token) = &self.identity_token {
            return Ok(Some(Credential::IdentityToken(token.clone())));
        }
        if self.identity_token_stdin {
            return Ok(Some(Credential::IdentityToken(secret("token")?)));
        }
        if self.password_stdin {
            let Some(username) = &self.username else {
                return Ok(Some(Credential::IdentityToken(secret("token")?)));
            };
            return Ok(Some(Credential::password(username, secret("password")?)));
        }
        match (&self.username, &self.password) {
            (Some(username), Some(password)) => Ok(Some(Credential::password(username, password))),
            (Some(_), None) => Err(Failure::usage("a name without a password, option=--username")
                .with_hint("--password-stdin reads it from stdin")),
            (None, _) => Ok(None),
        }
    }

    pub(crate) fn options(&self) -> Result<RegistryOptions, Failure> {
        let mut options = RegistryOptions::new()
            .insecure(self.insecure)
            .plain_http(self.plain_http)
            .credentials(self.files());
        if let Some(file) = &self.ca_file {
            options = options.certificate_authority(file);
        }
        if let Some((certificate, key)) = &self.identity {
            options = options.client_certificate(certificate, key);
        }
        for header in &self.headers {
            let Some((name, value)) = header.split_once(':') else {
                return Err(Failure::usage("a header without a colon, option=--header")
                    .with_hint("write it as --header 'NAME: VALUE'"));
            };
            let added = options.header(name.trim(), value.trim());
            options = added.map_err(|error| Failure::usage(error.to_string()))?;
        }
        Ok(options)
    }

    /// A client that talks to registries in this way, and whose waits end when a signal comes.
    pub(crate) fn client(&self) -> Result<RegistryClient, Failure> {
        let options = self.options()?.sleep(|time| {
            let end = Instant::now() + time;
            while !interrupt::is_caught() {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return ControlFlow::Continue(());
                }
                std::thread::sleep(left.min(SLICE));
            }
            ControlFlow::Break(())
        });
        Ok(match self.credential()? {
            Some(credential) => options.credentials(credential).client(),
            None => options.client(),
        })
    }
}

/// A secret from stdin, without the end of its line.
fn secret(what: &str) -> Result<String, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::usage(format!("stdin is a terminal, and the {what} was to come from it"))
            .with_hint(format!(
                "pipe it in, as in `orlop login HOST -u NAME --password-stdin < {what}.txt`"
            )));
    }
    let mut text = String::new();
    let read = stdin.lock().take(MAX_SECRET).read_to_string(&mut text);
    read.map_err(|error| Failure::io("read the secret", Path::new("stdin"), &error))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Failure::usage(format!("no {what} came from stdin")));
    }
    Ok(text.to_owned())
}
