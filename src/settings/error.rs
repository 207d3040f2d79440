use std::{borrow::Cow, error, fmt};

/// A setting that cannot be: which field, what was given, and why it is refused.
///
/// All that is wrong with one configuration is reported at once: [`field`](Self::field), [`value`](Self::value) and
/// [`why`](Self::why) speak of the first problem, [`problems`](Self::problems) gives all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    field: Cow<'static, str>,
    value: String,
    why: Cow<'static, str>,
    more: Vec<ConfigError>,
}

impl ConfigError {
    pub(crate) fn new(
        field: impl Into<Cow<'static, str>>,
        value: impl fmt::Display,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { field: field.into(), value: short(&value.to_string()), why: why.into(), more: Vec::new() }
    }

    pub(crate) fn all(problems: Vec<Self>) -> Option<Self> {
        let mut problems = problems.into_iter();
        let mut first = problems.next()?;
        first.more.extend(problems);
        Some(first)
    }

    /// The name of the setting, as it is written in a configuration file.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What was given, shortened to 80 characters.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Why it is refused, and what is allowed.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The problems of both.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.more.extend(other.split());
        self
    }

    /// The same problems of settings that stand under `place` in a document.
    pub(crate) fn within(mut self, place: &str) -> Self {
        for problem in std::iter::once(&mut self.field).chain(self.more.iter_mut().map(|more| &mut more.field)) {
            *problem = format!("{place}.{problem}").into();
        }
        self
    }

    /// Every problem found, as an error of its own.
    pub(crate) fn split(mut self) -> Vec<Self> {
        let more = std::mem::take(&mut self.more);
        std::iter::once(self).chain(more).collect()
    }

    /// Every problem found, this one first.
    pub fn problems(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.more)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{} = {}: {}", problem.field, problem.value, problem.why)?;
        }
        Ok(())
    }
}

impl error::Error for ConfigError {}

/// What was given may be a whole file; what is said of it is read by people.
pub(super) fn short(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
