// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Glibc
internal import LinuxIO

@main
struct Main {
  static func main() {
    Signals.ignoreBrokenPipes()
    let console = Console.standard
    let arguments = Array(CommandLine.arguments.dropFirst())
    do {
      let own = arguments.prefix { $0 != "--" }
      var command = try VFIOFerry.parseAsRoot(own.first == "load" ? Array(own) : arguments)
      if var load = command as? LoadCommand {
        load.command = Array(arguments.dropFirst(own.count + 1))
        if own.count < arguments.count, load.command.isEmpty { throw CommandFailure.misuse("no command follows --") }
        command = load
      }
      guard let runnable = command as? any FerryCommand else {
        try command.run()
        return
      }
      try runnable.execute(console)
    } catch let failure as CommandFailure {
      console.note("vfio-ferry: \(failure.message)")
      exit(failure.status.rawValue)
    } catch {
      let code = VFIOFerry.exitCode(for: error)
      let message = VFIOFerry.fullMessage(for: error)
      if code == .success {
        console.line(message)
        exit(0)
      }
      console.note(message)
      exit(CommandFailure.Status.misuse.rawValue)
    }
  }
}

/// A command that runs against a console, in the program and in a test.
protocol FerryCommand: ParsableCommand {
  /// Does it.
  /// - Throws: ``CommandFailure``.
  func execute(_ console: Console) throws
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
      InspectCommand.self, SimulateCommand.self,
    ])

  static let version = "0.1.0"
}

/// How every command prints.
struct FormatOptions: ParsableArguments {
  @Flag(name: .shortAndLong, help: "Print JSON.")
  var json = false

  @Flag(name: .shortAndLong, help: "Print JSON over several lines.")
  var pretty = false
}
