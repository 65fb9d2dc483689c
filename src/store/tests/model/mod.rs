//! The store against a model: any sequence of operations shows what maps in memory show, through reopening, crashes, other
//! tools' edits, damage and faults.
//!
//! `ORLOP_MODEL_CASES` says how many sequences (64).

mod act;
mod life;
mod predict;
mod world;

use proptest::collection::vec;
use proptest::prelude::*;

use self::world::{BLOBS, IMAGES, REPOSITORIES, TAGS, World};

/// What a tag must be for an operation to happen.
#[derive(Clone, Copy, Debug)]
enum Want {
    Any,
    Absent,
    Is(usize),
}

/// What is one commit, or one call that changes nothing that is shown: all of it happens or nothing.
#[derive(Clone, Debug)]
enum Step {
    PushBlob {
        repository: usize,
        blob: usize,
    },
    /// Two images and a tag; the tag decides whether anything of it happens.
    PushBatch {
        repository: usize,
        images: (usize, usize),
        tag: usize,
        want: Want,
        submit: bool,
    },
    Tag {
        repository: usize,
        tag: usize,
        image: usize,
        want: Want,
    },
    Untag {
        repository: usize,
        tag: usize,
        want: Want,
    },
    Mount {
        from: usize,
        to: usize,
        image: usize,
    },
    DeleteRepository {
        repository: usize,
    },
    DeleteManifest {
        repository: usize,
        image: usize,
    },
    /// One of the loose blobs or of the parts of images.
    DeleteBlob {
        repository: usize,
        blob: usize,
    },
    /// Lets a repository have so many objects more than it has, or as many as it likes.
    SetQuota {
        repository: usize,
        more: Option<u64>,
    },
    SetRetention {
        repository: usize,
        keep: Option<u32>,
    },
    RemoveUnknown,
    Flush,
    Verify,
}

/// Which calls to the system fail.
#[derive(Clone, Copy, Debug)]
struct Failing {
    nth: usize,
    errno: usize,
    forever: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Do(Step),
    /// The step while calls to the system fail; then the store is opened anew.
    Fault(Step, Failing),
    /// Part by part, as a client does.
    PushImage {
        repository: usize,
        image: usize,
        tag: Option<usize>,
    },
    /// To a store of its own, with referrers.
    Copy {
        repository: usize,
        image: usize,
    },
    /// A content rots; it is found, and healed by a push or from another layout.
    Damage {
        blob: usize,
        push: bool,
    },
    ForeignTag {
        tag: usize,
        image: usize,
        open: bool,
    },
    ForeignUntag {
        tag: usize,
    },
    Reopen,
    /// Calls fail while the store is closed and opened.
    FaultyReopen(Failing),
    Crash,
    /// With what the old metadata tell, or without.
    Rebuild {
        salvage: bool,
    },
    /// Of everything that may go, maybe while calls fail.
    Collect(Option<Failing>),
    Lease {
        repository: usize,
        blob: usize,
    },
    /// All leases.
    Release,
    Upload {
        repository: usize,
        blob: usize,
        crashes: bool,
    },
}

fn wants() -> impl Strategy<Value = Want> {
    prop_oneof![3 => Just(Want::Any), 1 => Just(Want::Absent), 1 => (0..IMAGES).prop_map(Want::Is)]
}

fn steps() -> impl Strategy<Value = Step> {
    let (repository, image, tag) = (0..REPOSITORIES.len(), 0..IMAGES, 0..TAGS.len());
    prop_oneof![
        2 => (repository.clone(), 0..BLOBS).prop_map(|(repository, blob)| Step::PushBlob { repository, blob }),
        3 => (repository.clone(), (image.clone(), image.clone()), tag.clone(), wants(), any::<bool>())
            .prop_map(|(repository, images, tag, want, submit)| Step::PushBatch { repository, images, tag, want, submit }),
        4 => (repository.clone(), tag.clone(), image.clone(), wants())
            .prop_map(|(repository, tag, image, want)| Step::Tag { repository, tag, image, want }),
        2 => (repository.clone(), tag, wants()).prop_map(|(repository, tag, want)| Step::Untag { repository, tag, want }),
        2 => (repository.clone(), repository.clone(), image.clone()).prop_map(|(from, to, image)| Step::Mount { from, to, image }),
        2 => (repository.clone(), image).prop_map(|(repository, image)| Step::DeleteManifest { repository, image }),
        2 => (repository.clone(), 0..16_usize).prop_map(|(repository, blob)| Step::DeleteBlob { repository, blob }),
        1 => repository.clone().prop_map(|repository| Step::DeleteRepository { repository }),
        2 => (repository.clone(), proptest::option::of(0..6_u64))
            .prop_map(|(repository, more)| Step::SetQuota { repository, more }),
        1 => (repository, proptest::option::of(1..9_u32))
            .prop_map(|(repository, keep)| Step::SetRetention { repository, keep }),
        1 => Just(Step::RemoveUnknown),
        2 => Just(Step::Flush),
        1 => Just(Step::Verify),
    ]
}

fn failures() -> impl Strategy<Value = Failing> {
    // Most steps pass a few points only, some of them many.
    let nth = prop_oneof![3 => 1..8_usize, 1 => 8..60_usize];
    (nth, 0..3_usize, any::<bool>()).prop_map(|(nth, errno, forever)| Failing { nth, errno, forever })
}

fn ops() -> impl Strategy<Value = Op> {
    let (repository, image, tag) = (0..REPOSITORIES.len(), 0..IMAGES, 0..TAGS.len());
    prop_oneof![
        20 => steps().prop_map(Op::Do),
        8 => (steps(), failures()).prop_map(|(step, failing)| Op::Fault(step, failing)),
        5 => (repository.clone(), image.clone(), proptest::option::of(tag.clone()))
            .prop_map(|(repository, image, tag)| Op::PushImage { repository, image, tag }),
        1 => (repository, image.clone()).prop_map(|(repository, image)| Op::Copy { repository, image }),
        2 => (0..16_usize, any::<bool>()).prop_map(|(blob, push)| Op::Damage { blob, push }),
        3 => (tag.clone(), image, any::<bool>()).prop_map(|(tag, image, open)| Op::ForeignTag { tag, image, open }),
        1 => tag.prop_map(|tag| Op::ForeignUntag { tag }),
        2 => Just(Op::Reopen),
        1 => failures().prop_map(Op::FaultyReopen),
        2 => Just(Op::Crash),
        1 => any::<bool>().prop_map(|salvage| Op::Rebuild { salvage }),
        4 => proptest::option::weighted(0.4, failures()).prop_map(Op::Collect),
        2 => (0..REPOSITORIES.len(), 0..16_usize).prop_map(|(repository, blob)| Op::Lease { repository, blob }),
        1 => Just(Op::Release),
        1 => (0..REPOSITORIES.len(), 0..BLOBS, any::<bool>())
            .prop_map(|(repository, blob, crashes)| Op::Upload { repository, blob, crashes }),
    ]
}

fn cases() -> u32 {
    std::env::var("ORLOP_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_agrees_with_the_model(ops in vec(ops(), 1..20)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.check();
        }
        world.apply(&Op::Reopen);
        world.check();
    }
}
