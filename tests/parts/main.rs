//! Parts that know neither a database nor a clock, each against what others computed or published.

mod sealing;
