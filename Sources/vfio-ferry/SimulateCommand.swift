internal import ArgumentParser
struct SimulateCommand: FerryCommand {
  static let configuration = CommandConfiguration(commandName: "simulate")
  func execute(_ console: Console) throws {}
}
