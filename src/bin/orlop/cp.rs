//! `orlop cp`

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use orlop::oci::{RepositoryName, Tag};
use orlop::transfer::{Copier, Item, Platforms, RegistryClient};
use orlop::{ErrorKind, Sharing};

use crate::args::{flag, in_layout, layout_path, option, value, values, verb};
use crate::copied::{Failed, Report, print};
use crate::endpoint::{Goal, Named, Origin, Selected, Selection};
use crate::error::{Exit, Failure};
use crate::from_file::{self, Tags};
use crate::interrupt;
use crate::names::{Move, Naming, settle};
use crate::output::{Output, plain};
use crate::platform::Wanted;
use crate::reference::repository_and_tags;
use crate::remote::{RemoteArgs, Remotes};
use crate::session::WriteArgs;
use crate::tar_ref;
use crate::transfers::Transfers;

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) from: Vec<String>,
    pub(crate) from_file: Option<String>,
    pub(crate) to: String,
    pub(crate) naming: Naming,
    pub(crate) choice: Choice,
    pub(crate) write: WriteArgs,
    pub(crate) remotes: Remotes,
}

/// What is copied along, and how.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) recursive: bool,
    pub(crate) cosign_tags: bool,
    pub(crate) platforms: Vec<Wanted>,
    pub(crate) jobs: usize,
    pub(crate) keep_going: bool,
    pub(crate) dry_run: bool,
    pub(crate) record: bool,
    pub(crate) sharing: Sharing,
    pub(crate) verify: bool,
}

pub(crate) fn command() -> Command {
    verb(
        "cp",
        "Copy artifacts from one place to another",
        "Everything that a manifest refers to goes with it, its subject too; with -r also what is attached to it, and to the \
         manifests that an index lists, and what is attached to that, and a record of what was found, for `verify --closure`. Tags \
         move when everything is there. Content is shared with the source by \
         reflink or hard link where both are on one filesystem. Without a name in the destination, the names of the source are \
         kept, as REPOSITORY:TAG; without a name in the source, everything is copied. A copy that was interrupted is gone on with by the \
         same command.",
        "orlop cp -r oci:app:v1 oci:/media/stick/mirror --plain",
    )
    .visible_alias("copy")
    .arg(
        Arg::new("places")
            .value_names(["SOURCE", "DESTINATION"])
            .help("What to copy, and last where to: oci:DIR[:REF] or REGISTRY/REPOSITORY[:TAG]; to oci:DIR[:[REPOSITORY:]TAG[,TAG...]] or the same of a registry")
            .num_args(1..)
            .required(true),
    )
    .args(declare())
    .args(Choice::declare())
    .args(Naming::declare())
    .args(RemoteArgs::declare())
    .args(RemoteArgs::declare_sides())
    .args(WriteArgs::declare())
}

fn declare() -> [Arg; 5] {
    [
        option(
            "from-file",
            "FILE",
            "Copy what this list names: a reference a line, or images as `skopeo sync` has them in YAML; - is standard input",
        ),
        flag("from-oci-layout", "The source is DIR[:REF]").hide(true),
        flag("to-oci-layout", "The destination is DIR[:REF]").hide(true),
        layout_path("from-oci-layout-path", "The source is a name in this layout").hide(true),
        layout_path("to-oci-layout-path", "The destination is a name in this layout").hide(true),
    ]
}

impl Choice {
    pub(crate) fn declare() -> [Arg; 9] {
        [
            flag("recursive", "Copy what is attached as well: signatures, SBOMs and the like").short('r'),
            flag(
                "cosign-tags",
                "Copy what cosign attaches by tags as well: sha256-DIGEST.sig, .att and .sbom",
            ),
            option(
                "platform",
                "OS[/ARCH[/VARIANT]],...",
                "Copy of an index only what runs on these platforms",
            )
            .value_parser(str::parse::<Wanted>)
            .value_delimiter(',')
            .action(ArgAction::Append),
            option("jobs", "N", "How many transfers run side by side")
                .short('j')
                .visible_alias("concurrency")
                .default_value("4")
                .value_parser(value_parser!(u8).range(1..=64)),
            flag("keep-going", "Copy what can be copied when something fails; exits with 8 then"),
            flag("dry-run", "Only say what would be copied, and how many bytes"),
            flag("no-record", "Do not attach a record of what was found at the source"),
            flag(
                "no-link",
                "Share nothing with the source by hard links: damage to one is no damage to the other",
            ),
            flag("no-verify", "Do not hash what the destination has already; only sizes are compared"),
        ]
    }

    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let platforms: Vec<Wanted> = matches.get_many("platform").into_iter().flatten().cloned().collect();
        let recursive = matches.get_flag("recursive");
        Self {
            recursive,
            cosign_tags: matches.get_flag("cosign-tags"),
            record: !matches.get_flag("no-record") && (recursive || !platforms.is_empty()),
            platforms,
            jobs: usize::from(value::<u8>(matches, "jobs").unwrap_or(4)),
            keep_going: matches.get_flag("keep-going"),
            dry_run: matches.get_flag("dry-run"),
            sharing: if matches.get_flag("no-link") { Sharing::Reflink } else { Sharing::Link },
            verify: !matches.get_flag("no-verify"),
        }
    }
}

impl Args {
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        let mut places = values(matches, "places");
        let to = places.pop().unwrap_or_default();
        let place = |text: String, flags: [&str; 2]| match value::<String>(matches, flags[1]) {
            Some(layout) => in_layout(&layout, &text),
            None if matches.get_flag(flags[0]) && !text.starts_with("oci:") => format!("oci:{text}"),
            None => text,
        };
        let from_file: Option<String> = value(matches, "from-file");
        if places.is_empty() && from_file.is_none() {
            return Err(Failure::usage(format!("no destination was given, source={}", plain(&to)))
                .with_hint("the last argument is where to copy, as `orlop cp oci:a:v1 oci:b`"));
        }
        let from = ["from-oci-layout", "from-oci-layout-path"];
        Ok(Self {
            from: places.into_iter().map(|text| place(text, from)).collect(),
            from_file,
            to: place(to, ["to-oci-layout", "to-oci-layout-path"]),
            naming: Naming::of(matches)?,
            choice: Choice::of(matches),
            write: WriteArgs::of(matches),
            remotes: Remotes::of(matches),
        })
    }
}

/// What is to be done, decided before anything is transferred.
struct Plan {
    /// For registries that are copied from.
    client: RegistryClient,
    origins: Vec<Origin>,
    moves: Vec<Move>,
    /// Whole layouts, whose other names are told of in the end.
    whole: Vec<usize>,
    failed: Vec<Failed>,
    /// The sources as the user named them.
    shown: String,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let to = Named::destination(&args.to)?;
    // A registry may be waited for: from here on a first signal only stops the work.
    interrupt::defer();
    let wanted = wanted(args)?;
    let [client, goal_client] =
        args.remotes.clients(wanted.iter().map(|(reference, _)| reference.as_str()), &to)?;
    let plan = Plan::make(args, wanted, client, &to, output)?;
    let goal = Goal::open(&to, args.choice.dry_run, &args.write, &goal_client, output)?;
    let mut report = Report::new(&to.shown(), args.choice.dry_run);
    let Plan { origins, moves, whole, failed, shown, .. } = plan;
    report.failed = failed;
    let mut transfers = Transfers::new(output.progress());
    let mut outcome = Ok(());
    for group in moves
        .chunk_by(|one, other| (one.source, &one.from, &one.to) == (other.source, &other.from, &other.to))
    {
        outcome = copy(&args.choice, &origins, &goal, group, &mut transfers, &mut report, &to);
        if outcome.is_err() {
            break;
        }
    }
    report.seconds = transfers.elapsed().as_secs_f64();
    drop(transfers);
    // What came before a failure is complete for other tools too.
    let closed = goal.close();
    outcome?;
    closed?;
    print(&report, &shown, output)?;
    left(&origins, &whole, &to)?;
    match report.failed.first() {
        None => Ok(()),
        Some(first) => Err(Failure::new(
            Exit::Partial,
            format!(
                "some of it was not copied, failed={}, first={}: {}",
                report.failed.len(),
                plain(&first.reference),
                plain(&first.error)
            ),
        )
        .with_hint("the same command copies what is missing; what is there already is not copied again")),
    }
}

/// What is to be copied, as it was named.
fn wanted(args: &Args) -> Result<Vec<(String, Tags)>, Failure> {
    let mut wanted: Vec<(String, Tags)> = args.from.iter().map(|from| (from.clone(), Tags::Named)).collect();
    if let Some(path) = &args.from_file {
        wanted.extend(from_file::read(path)?.into_iter().map(|one| (one.reference, one.tags)));
    }
    Ok(wanted)
}

/// Names that could not be carried.
fn left(origins: &[Origin], whole: &[usize], to: &Named) -> Result<(), Failure> {
    for origin in whole.iter().filter_map(|index| origins.get(*index)) {
        if let (count, Some(first)) = origin.foreign_names()? {
            return Err(Failure::new(
                Exit::Partial,
                format!(
                    "names that are no [REPOSITORY:]TAG were not carried, names={count}, first={}",
                    plain(&first)
                ),
            )
            .with_hint(format!(
                "copy them one by one under other names: `orlop cp {}:NAME {}:TAG`",
                origin.shown(),
                to.place()
            )));
        }
    }
    Ok(())
}

/// Copies between the same two repositories; each content is looked at once.
fn copy(
    choice: &Choice,
    origins: &[Origin],
    goal: &Goal,
    group: &[Move],
    transfers: &mut Transfers,
    report: &mut Report,
    to: &Named,
) -> Result<(), Failure> {
    let Some((first, origin)) = group.first().and_then(|one| Some((one, origins.get(one.source)?))) else {
        return Ok(());
    };
    let (from, sink) = (origin.source(&first.from)?, goal.sink(&first.to, choice.sharing)?);
    let mut copier = Copier::between(&*from, &*sink)
        .referrers(choice.recursive)
        .cosign_tags(choice.cosign_tags)
        .verify(choice.verify)
        .jobs(choice.jobs)
        .keep_going(choice.keep_going)
        .dry_run(choice.dry_run)
        .record(choice.record)
        .watch(|step| transfers.step(step));
    if origin.registry().is_some() && origin.registry() == goal.registry() {
        copier = copier.mount_from(first.from.clone());
    }
    if !choice.platforms.is_empty() {
        let platforms = choice.platforms.iter().map(Wanted::platform).cloned().collect();
        copier = copier.platforms(Platforms::new(platforms));
    }
    let items: Vec<Item> = group.iter().map(|one| Item::new(one.root, one.tags.clone())).collect();
    let (copied, failed) = copier.copy_all(&items).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::new(Exit::Incomplete, error.to_string())
            .with_hint("no tag of it has moved; take what is missing from where the source came from"),
        ErrorKind::Interrupted => {
            interrupt::failure("its tags have not moved; the next copy goes on with what came")
        }
        _ => error.into(),
    })?;
    report.add(copied);
    let mut failed = failed.into_iter().peekable();
    for (index, one) in group.iter().enumerate() {
        match failed.next_if(|(at, _)| *at == index) {
            Some((_, error)) => report
                .failed
                .push(Failed { reference: one.shown.clone(), error: Failure::from(error).chain() }),
            None => report.done(one, to),
        }
    }
    Ok(())
}

impl Plan {
    /// What is to be copied, and what it is called at the destination.
    fn make(
        args: &Args,
        wanted: Vec<(String, Tags)>,
        client: RegistryClient,
        to: &Named,
        output: &Output,
    ) -> Result<Self, Failure> {
        let is_alone = args.from.len() == 1 && args.from_file.is_none();
        let shown = match args.from.as_slice() {
            [one] if is_alone => Named::source(one)?.shown(),
            _ => format!("{} sources", wanted.len()),
        };
        let mut plan = Self {
            client,
            origins: Vec::new(),
            moves: Vec::new(),
            whole: Vec::new(),
            failed: Vec::new(),
            shown,
        };
        for (reference, tags) in wanted {
            match plan.add(args, &reference, &tags, to, is_alone, output) {
                Err(failure) if args.choice.keep_going && failure.exit() != Exit::Usage => {
                    plan.failed.push(Failed { reference, error: failure.chain() });
                }
                result => result?,
            }
        }
        below(&mut plan.moves, to)?;
        plan.moves = settle(std::mem::take(&mut plan.moves))?;
        Ok(plan)
    }

    fn add(
        &mut self,
        args: &Args,
        reference: &str,
        tags: &Tags,
        to: &Named,
        is_alone: bool,
        output: &Output,
    ) -> Result<(), Failure> {
        let from = Named::source(reference)?;
        let source = match self.origins.iter().position(|origin| origin.shown() == from.place()) {
            Some(index) => index,
            None => {
                self.origins.push(Origin::open(&from, &self.client, output)?);
                self.origins.len() - 1
            }
        };
        let Some(origin) = self.origins.get(source) else { return Ok(()) };
        let lost = origin.unusable(&from);
        if args.choice.keep_going {
            let failed = lost.into_iter().map(|one| Failed { reference: one.name, error: one.reason });
            self.failed.extend(failed);
        } else {
            tar_ref::unusable(&lost, &from.shown())?;
        }
        let is_whole = from.is_whole() && matches!(tags, Tags::Named);
        if is_whole {
            self.whole.push(source);
        }
        let one = |selected: Selected, to, tags| Move {
            source,
            from: selected.repository,
            root: selected.root,
            to,
            tags,
            shown: selected.shown,
        };
        let keep = |selected: Selected| -> Result<Move, Failure> {
            let (to, tags) = (args.naming.apply(&selected.named)?, selected.tags.clone());
            Ok(one(selected, to, tags))
        };
        match (origin.select(&from, tags, args.choice.jobs)?, named(to)?) {
            (Selection::One(selected) | Selection::Foreign(selected), Some((to, tags))) if is_alone => {
                if !args.naming.is_plain() {
                    return Err(Failure::usage(format!("the destination has a name, reference={}", args.to))
                        .with_hint("leave out --map, --prefix and --tag-only, or the name"));
                }
                self.moves.push(one(selected, to, tags));
            }
            (Selection::One(selected), None) => self.moves.push(keep(selected)?),
            (Selection::Many(many), None) => {
                for selected in many {
                    self.moves.push(keep(selected)?);
                }
            }
            (Selection::Foreign(_), None) => {
                return Err(Failure::usage(format!(
                    "the name in the source is no [REPOSITORY:]TAG, reference={}",
                    from.shown()
                ))
                .with_hint(format!("say what it is called in the destination, as {}:TAG", to.place())));
            }
            (selection, Some(_)) => return Err(no_one_name(&selection, &from, to, is_whole)),
        }
        Ok(())
    }
}

/// The one name that a destination has, if it has one.
fn named(to: &Named) -> Result<Option<(RepositoryName, Vec<Tag>)>, Failure> {
    match to {
        Named::Layout(_) | Named::Archive(_) if to.is_whole() => Ok(None),
        Named::Layout(target) | Named::Archive(target) => repository_and_tags(target).map(Some),
        Named::Registry(remote) if remote.references.is_empty() => Ok(None),
        Named::Registry(remote) => Ok(Some((remote.repository.clone().unwrap_or_default(), remote.tags()?))),
    }
}

/// Puts what goes to a repository of a registry there, or below it if it is of several repositories.
fn below(moves: &mut [Move], to: &Named) -> Result<(), Failure> {
    let Named::Registry(remote) = to else { return Ok(()) };
    let is_one = moves.windows(2).all(|pair| matches!(pair, [one, other] if one.to == other.to));
    for one in moves.iter_mut().filter(|_| remote.references.is_empty()) {
        one.to = match &remote.repository {
            Some(repository) if is_one || one.to.is_unnamed() => repository.clone(),
            Some(repository) => {
                format!("{repository}/{}", one.to).parse().map_err(|error| crate::reference::usage(&error))?
            }
            None => one.to.clone(),
        };
    }
    if moves.iter().any(|one| one.to.is_unnamed()) {
        return Err(Failure::usage(format!(
            "a repository of a registry needs a name, reference={}",
            to.shown()
        ))
        .with_hint("write REGISTRY/REPOSITORY, or give --map =REPOSITORY"));
    }
    Ok(())
}

/// Several things cannot have one name.
fn no_one_name(selection: &Selection, from: &Named, to: &Named, is_whole: bool) -> Failure {
    let what = match selection {
        _ if is_whole => "a whole layout",
        Selection::Many(_) => "a repository, or several tags,",
        _ => "more than one source",
    };
    let failure = Failure::usage(format!(
        "{what} cannot be copied to one name, source={}, destination={}",
        from.shown(),
        to.shown()
    ));
    if is_whole {
        failure.with_hint(format!(
            "name what to copy, as {}:TAG, or leave out the name of the destination",
            from.place()
        ))
    } else {
        failure
            .with_hint(format!("copy to {}: names are kept, and changed by --map and --prefix", to.place()))
    }
}
