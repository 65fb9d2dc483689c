//! Who is told what where a copy names several registries: each only what is meant for it.

use std::collections::BTreeSet;

use clap::ArgMatches;
use orlop::transfer::RegistryClient;

use super::RemoteArgs;
use crate::endpoint::Named;
use crate::error::Failure;

/// The options for registries of a verb that may name several.
#[derive(Debug)]
pub(crate) struct Remotes {
    any: RemoteArgs,
    from: RemoteArgs,
    to: RemoteArgs,
}

impl Remotes {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let [from, to] = RemoteArgs::of_sides(matches);
        Self { any: RemoteArgs::of(matches), from, to }
    }

    /// Of a verb that has no options for each side.
    pub(crate) fn one(matches: &ArgMatches) -> Self {
        let (from, to) = (RemoteArgs::default(), RemoteArgs::default());
        Self { any: RemoteArgs::of(matches), from, to }
    }

    /// Clients for where it comes from and where it goes to.
    ///
    /// A password is given to the registry that it is for, and a connection is left open to others only where that was said of it. So
    /// what is said of no side is refused where there is more than one registry.
    pub(crate) fn clients<'a>(
        &self,
        from: impl Iterator<Item = &'a str>,
        to: &Named,
    ) -> Result<[RegistryClient; 2], Failure> {
        // What cannot be read is told when it is looked for.
        let sources: BTreeSet<String> =
            from.filter_map(|text| registry(&Named::source(text).ok()?)).collect();
        let goal = registry(to);
        let all: BTreeSet<&String> = sources.iter().chain(&goal).collect();
        let many =
            |all: BTreeSet<&String>| all.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        if self.any.is_for_one() && all.len() > 1 {
            return Err(Failure::usage(format!(
                "credentials, headers, certificates, --insecure and --plain-http are for one registry, and several are named, registries={}",
                many(all)
            ))
            .with_hint("say of which, as with --from-username and --to-username of `orlop cp`, or use `orlop login`"));
        }
        if self.from.is_for_one() && sources.len() > 1 {
            return Err(Failure::usage(format!(
                "options for the registry that is copied from, and several are named, registries={}",
                many(sources.iter().collect())
            ))
            .with_hint("copy from one after the other, or use `orlop login`"));
        }
        for (side, registries, what) in
            [(&self.from, sources.len(), "from"), (&self.to, usize::from(goal.is_some()), "to")]
        {
            if side.is_used() && registries == 0 {
                return Err(Failure::usage(format!(
                    "options for a registry that is copied {what}, and none is named, options=--{what}-..."
                )));
            }
        }
        let is_alone = !self.from.is_used() && !self.to.is_used();
        let sides = [&self.to, &self.from].map(|side| side.or(&self.any));
        if !is_alone && sides.iter().all(RemoteArgs::reads_stdin) {
            return Err(Failure::usage("standard input is read once, and two secrets were to come from it")
                .with_hint("use `orlop login` for one of the registries"));
        }
        let [to, from] = sides;
        let to = to.client()?;
        let from = if is_alone { to.clone() } else { from.client()? };
        Ok([from, to])
    }
}

fn registry(named: &Named) -> Option<String> {
    match named {
        Named::Registry(remote) => Some(remote.registry.to_string()),
        Named::Layout(_) | Named::Archive(_) => None,
    }
}
