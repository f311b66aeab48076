"""What makes an evaluation doubtful: signs in the model, and in what the attacks did."""
