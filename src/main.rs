fn main() {
    print!("{}", salespulse::contract::running());
}
