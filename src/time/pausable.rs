//! Whether tokio's clock can be paused in this build. A crate is not told the features of another; but it can see
//! which names that has.

/// Whether tokio was built with its feature `test-util`.
pub(super) const IS_PAUSABLE: bool = {
    // Where tokio has a `pause`, this brings it in before the one below.
    #[allow(unused_imports, reason = "there may be no name in it that is used here")]
    use tokio::time::*;
    gives(pause)
};

struct Nothing;

#[allow(dead_code, reason = "it stands for a function that tokio may have")]
fn pause() -> Nothing {
    Nothing
}

const fn gives<A: Answer>(_: fn() -> A) -> bool {
    A::IS_TOKIOS
}

trait Answer {
    const IS_TOKIOS: bool;
}

impl Answer for () {
    const IS_TOKIOS: bool = true;
}

impl Answer for Nothing {
    const IS_TOKIOS: bool = false;
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tests_are_built_with_a_clock_that_can_be_paused() {
        const { assert!(super::IS_PAUSABLE) }
    }
}
