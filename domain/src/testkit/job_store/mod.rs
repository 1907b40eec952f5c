//! The contract of [`JobStore`](crate::port::JobStore).

mod leases;
mod lists;
mod outbox;
mod submits;
mod updates;

pub use leases::*;
pub use lists::*;
pub use outbox::*;
pub use submits::*;
pub use updates::*;

/// Makes one test of each contract of the job store.
#[macro_export]
macro_rules! job_store_suite {
    ($open:expr) => {
        $crate::contract_tests!(
            job_store,
            $open,
            [
                a_created_job_is_read_back,
                a_repeated_submit_gets_the_first_answer,
                a_key_with_another_body_is_refused,
                keys_of_tenants_are_apart,
                concurrent_submits_with_one_key_make_one_job,
                a_deleted_job_leaves_nothing,
                an_update_is_read_back,
                a_write_over_another_is_a_conflict,
                of_many_updates_one_wins,
                leadership_is_kept_and_given_up,
                leadership_passes_on_when_it_expires,
                an_old_leader_is_fenced,
                events_are_dense,
                a_job_lives_to_its_end,
                lists_are_newest_first_and_paged,
                lists_are_filtered,
                a_filter_that_few_pass_is_followed_to_its_end,
                tenants_see_only_their_own,
                active_jobs_are_the_pools_oldest_first,
                the_outbox_holds_entries_until_they_are_done,
                the_outbox_is_limited_and_in_order,
                a_lease_is_renewed_by_its_holder,
                a_renewal_of_others_is_stale,
                a_lease_ends_with_its_state,
                a_new_attempt_begins_a_new_lease,
                leases_are_the_pools,
                a_progress_that_json_cannot_hold_is_kept_out,
                workers_are_kept_by_their_life,
            ]
        );
    };
}
