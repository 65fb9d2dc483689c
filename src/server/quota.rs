//! What a repository may hold, as the policy has it.

use crate::{Quota, Repository, Result};

/// Lets the store keep the quota that a policy grants, exactly and also when many push at once.
pub(super) fn apply(repository: &Repository, granted: Option<Quota>) -> Result<()> {
    match granted {
        Some(quota) if repository.quota()? != quota => repository.set_quota(&quota),
        _ => Ok(()),
    }
}
