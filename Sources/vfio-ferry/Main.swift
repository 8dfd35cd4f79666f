// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Glibc
internal import LinuxIO
internal import Topology

@main
struct Main {
  static func main() {
    StandardDescriptors.fill()
    Signals.ignoreBrokenPipes()
    let console = Console.standard
    var status = run(Array(CommandLine.arguments.dropFirst()), console)
    if let error = Console.outputError, status == 0 {
      if error.errno != EPIPE { console.note("vfio-ferry: \(error)") }
      status = CommandFailure.Status.failed.rawValue
    }
    exit(status)
  }

  private static func run(_ arguments: [String], _ console: Console) -> Int32 {
    var command: any ParsableCommand
    do {
      command = try parse(arguments)
    } catch {
      return tell(error, console)
    }
    do {
      if let runnable = command as? any FerryCommand {
        if runnable.changesDevices {
          for line in ThrottleFolder().putBackLeftovers() { console.note("vfio-ferry: \(line)") }
        }
        try runnable.execute(console)
      } else {
        // Help, completion scripts: the parser's own commands.
        try command.run()
      }
      return 0
    } catch {
      return tell(error, console)
    }
  }

  /// Takes what stands behind "--" off the command line of `load` and `receive`: a list of devices would swallow it.
  private static func parse(_ arguments: [String]) throws -> any ParsableCommand {
    let own = arguments.prefix { $0 != "--" }
    guard own.first == "load" || own.first == "receive", own.count < arguments.count else {
      return try VFIOFerry.parseAsRoot(arguments)
    }
    let command = try VFIOFerry.parseAsRoot(Array(own))
    guard var giver = command as? any CommandGiver else { return command }
    giver.command = Array(arguments.dropFirst(own.count + 1))
    if giver.command.isEmpty { throw CommandFailure.misuse("no command follows --") }
    return giver
  }

  /// Says what went wrong, or prints the help that was asked for.
  /// - Returns: the exit status.
  private static func tell(_ error: any Error, _ console: Console) -> Int32 {
    if let failure = error as? CommandFailure {
      console.log(.error, "vfio-ferry: \(failure.message)")
      return failure.status.rawValue
    }
    let message = VFIOFerry.fullMessage(for: error)
    if VFIOFerry.exitCode(for: error) == .success {
      console.line(message)
      return 0
    }
    console.note(message)
    return CommandFailure.Status.misuse.rawValue
  }
}

/// A command that runs against a console, in the program and in a test.
protocol FerryCommand: ParsableCommand {
  /// Whether it changes devices; then what an earlier run has left throttled is put back first.
  var changesDevices: Bool { get }
  /// Does it.
  /// - Throws: ``CommandFailure``.
  func execute(_ console: Console) throws
}

/// One that can become another command, which inherits its devices.
protocol CommandGiver: FerryCommand {
  /// The program and its arguments; empty where none was named.
  var command: [String] { get set }
}

extension FerryCommand {
  var changesDevices: Bool { false }
}

struct VFIOFerry: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vfio-ferry",
    abstract: "Moves PCI devices that virtual machines own through VFIO.",
    discussion: """
      DEV is a PCI address (0000:3b:00.1), a mediated device's UUID, or a node (/dev/vfio/devices/vfio0).

      Exit status: 0 done; 1 it failed; 2 misuse of the command line; 3 refused before anything was changed; 4 no such \
      device, or nothing to do it on.
      """,
    version: version,
    subcommands: [
      ListCommand.self, ShowCommand.self, StateCommand.self, WalkCommand.self, SaveCommand.self, LoadCommand.self,
      SendCommand.self, ReceiveCommand.self, InspectCommand.self, HelperCommand.self, DirtyCommand.self,
      TopologyCommand.self, SimulateCommand.self, BudgetCommand.self, TagCommand.self, DoctorCommand.self,
      PrepareCommand.self, MonitorCommand.self, UdevCommand.self,
    ])

  static let version = "0.1.0"
}

/// How every command prints.
struct FormatOptions: ParsableArguments {
  @Flag(name: .shortAndLong, help: "Print JSON.")
  var json = false

  @Flag(name: .shortAndLong, help: "Print JSON over several lines.")
  var pretty = false

  /// Either flag asks for JSON.
  var wantsJSON: Bool { json || pretty }
}
