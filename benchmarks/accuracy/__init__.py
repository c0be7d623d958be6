"""Published step times beside what the planner's cost model predicts."""
