//! Asking a tenant the generated questions, over any transport.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use uuid::Uuid;

use super::Run;
use super::answers::{Answers, first_of_each, list_ids, without_attempts, without_new_ids};
use super::canary::Canary;
use super::client::{Client, Transport};
use super::questions::Question;
use crate::error::Result;

/// Which of the questions are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Also those that differ in one argument.
    All,
    /// [`Question::is_whole`].
    Whole,
}

impl Run<'_> {
    /// Finds which types' ids each question knows: it answers one of the tenant's own otherwise than one of nothing.
    pub(super) async fn learn_types(&mut self, own: &Canary) -> Result<()> {
        let token = own.token(self.app)?;
        let mut answers = Answers::new();
        self.ask_without_id(&self.client, Transport::Post, &token, Which::All, &mut answers).await?;
        let ids = first_of_each(&list_ids(&answers));
        for question in self.questions.iter().filter(|question| question.takes_id()) {
            let ask = async |id: &str| self.ask_by_id(&token, id, |id| question.with_id(id)).await;
            let nothing = ask(&nothing()).await?;
            let mut known = BTreeSet::new();
            for (ty, id) in &ids {
                if ask(id).await? != nothing {
                    known.insert(ty.clone());
                }
            }
            if known.is_empty() {
                self.report.refused.push(format!("{} (no id is known)", question.name));
            }
            self.types.insert(question.name.clone(), known);
        }
        Ok(())
    }

    async fn ask_without_id(
        &self,
        client: &Client,
        transport: Transport,
        token: &str,
        which: Which,
        answers: &mut Answers,
    ) -> Result<()> {
        for question in self.select(which).filter(|question| !question.takes_id()) {
            let answer = client.ask(transport, token, &question.document).await?;
            answers.insert(question.name.clone(), answer);
        }
        Ok(())
    }

    /// The questions that take an id, each with one of each type that it knows.
    pub(super) fn list_with_ids<'q>(
        &'q self,
        ids: &'q BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&'q Question, &'q String, &'q String)> {
        let known = |question: &'q Question| self.types.get(&question.name).into_iter().flatten();
        let with_types = self.questions.iter().flat_map(move |question| known(question).map(move |ty| (question, ty)));
        with_types.filter_map(|(question, ty)| Some((question, ty, ids.get(ty)?)))
    }

    fn select(&self, which: Which) -> impl Iterator<Item = &Question> {
        self.questions.iter().filter(move |question| which == Which::All || question.is_whole)
    }

    /// What [`Which::Whole`] asks of the responses to all.
    pub(super) fn only_whole(&self, answers: &Answers) -> Answers {
        let whole: BTreeSet<&str> = self.select(Which::Whole).map(|question| question.name.as_str()).collect();
        let is_whole = |asked: &str| whole.contains(asked.split(" of ").next().unwrap_or(asked));
        answers
            .iter()
            .filter(|(asked, _)| is_whole(asked))
            .map(|(asked, answer)| (asked.clone(), answer.clone()))
            .collect()
    }

    pub(super) async fn ask_whole(&self, of: &Canary) -> Result<Answers> {
        self.ask(Which::Whole, &self.client, Transport::Post, of).await
    }

    /// Asks the questions; those that take an id, with one of each type that they know from the tenant's own responses.
    pub(super) async fn ask(
        &self,
        which: Which,
        client: &Client,
        transport: Transport,
        of: &Canary,
    ) -> Result<Answers> {
        let token = of.token(self.app)?;
        let mut answers = Answers::new();
        self.ask_without_id(client, transport, &token, which, &mut answers).await?;
        let ids = first_of_each(&list_ids(&answers));
        let with_ids = self.list_with_ids(&ids).filter(|(question, ..)| which == Which::All || question.is_whole);
        for (question, ty, id) in with_ids {
            let answer = client.ask(transport, &token, &question.with_id(id)).await?;
            answers.insert(format!("{} of {ty}", question.name), answer);
        }
        for answer in answers.values_mut() {
            without_attempts(answer);
            // Fields are resolved in any order, and so are their errors.
            if let Some(errors) = answer.get_mut("errors").and_then(Json::as_array_mut) {
                errors.sort_by_key(Json::to_string);
            }
        }
        Ok(answers)
    }

    /// The responses to one of the other tenant's ids, and to a nonexistent one.
    pub(super) async fn ask_both(
        &self,
        token: &str,
        id: &str,
        document: impl Fn(&str) -> String,
    ) -> Result<(Json, Json)> {
        let (found, nothing) =
            (self.ask_by_id(token, id, &document).await?, self.ask_by_id(token, &nothing(), &document).await?);
        Ok((without_new_ids(found), without_new_ids(nothing)))
    }

    /// The response to an id, which is shown as `{id}`.
    async fn ask_by_id(&self, token: &str, id: &str, document: impl Fn(&str) -> String) -> Result<Json> {
        let answer = self.client.ask(Transport::Post, token, &document(id)).await?;
        Ok(serde_json::from_str(&answer.to_string().replace(id, "{id}"))?)
    }
}

/// An id that nothing has.
fn nothing() -> String {
    Uuid::now_v7().to_string()
}
