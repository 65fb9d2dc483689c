//! How registries are talked to, as oras has it: credentials, certificates, headers.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use orlop::transfer::{Credential, CredentialFiles, RegistryClient, RegistryOptions};

use crate::args::{flag, option, value, values};
use crate::error::Failure;

const HEADING: &str = "Registries";

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

impl RemoteArgs {
    pub(crate) fn declare() -> [Arg; 12] {
        let path = |name, form, help| option(name, form, help).value_parser(value_parser!(PathBuf));
        [
            option("username", "NAME", "The name to log in with").short('u'),
            option("password", "PASSWORD", "The password; others on this machine can see it")
                .short('p')
                .requires("username"),
            flag("password-stdin", "Read the password from stdin").conflicts_with("password"),
            option("identity-token", "TOKEN", "A token that stands for name and password")
                .conflicts_with_all(["username", "password", "password-stdin"]),
            flag("identity-token-stdin", "Read that token from stdin").conflicts_with_all([
                "username",
                "password",
                "password-stdin",
                "identity-token",
            ]),
            path(
                "registry-config",
                "FILE",
                "Use the credentials of this file, instead of docker's and podman's",
            )
            .action(ArgAction::Append),
            path("ca-file", "FILE", "Trust the authorities in this file of certificates as well"),
            path("cert-file", "FILE", "The certificate to show").requires("key-file"),
            path("key-file", "FILE", "The key of that certificate").requires("cert-file"),
            flag("insecure", "Take any certificate of a registry"),
            flag("plain-http", "Speak HTTP to registries, as to those on this machine anyway"),
            option("header", "NAME: VALUE", "Add a header to every request")
                .short('H')
                .action(ArgAction::Append),
        ]
        .map(|arg| arg.help_heading(HEADING))
    }

    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let cert_file: Option<PathBuf> = value(matches, "cert-file");
        Self {
            username: value(matches, "username"),
            password: value(matches, "password"),
            password_stdin: matches.get_flag("password-stdin"),
            identity_token: value(matches, "identity-token"),
            identity_token_stdin: matches.get_flag("identity-token-stdin"),
            files: matches.get_many("registry-config").into_iter().flatten().cloned().collect(),
            ca_file: value(matches, "ca-file"),
            identity: cert_file.zip(value(matches, "key-file")),
            insecure: matches.get_flag("insecure"),
            plain_http: matches.get_flag("plain-http"),
            headers: values(matches, "header"),
        }
    }

    /// Refuses what says something of registries where there is none.
    pub(crate) fn check_unused(&self, text: &str) -> Result<(), Failure> {
        let is_used = self.has_credential() || self.ca_file.is_some() || self.identity.is_some();
        if is_used || self.insecure || self.plain_http || !self.headers.is_empty() || !self.files.is_empty() {
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

    /// A client that talks to registries in this way.
    pub(crate) fn client(&self) -> Result<RegistryClient, Failure> {
        self.client_with(|options| options)
    }

    /// The same with something more that is to be so.
    pub(crate) fn client_with(
        &self,
        more: impl FnOnce(RegistryOptions) -> RegistryOptions,
    ) -> Result<RegistryClient, Failure> {
        let options = more(self.options()?);
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
