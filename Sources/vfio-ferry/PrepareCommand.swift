// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Migration
internal import Topology
internal import VFIO

struct PrepareCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "prepare",
    abstract: "Make VFs of a physical function that are ready to be migrated, or take them back.",
    usage: """
      vfio-ferry prepare PF --vfs N [OPTIONS]
      vfio-ferry prepare PF|FILE [--dry-run]
      vfio-ferry prepare --all [--dry-run]
      vfio-ferry prepare --configured PF
      vfio-ferry prepare PF --undo [--dry-run]
      """,
    discussion: """
      PF is a PCI address, or a network interface of the function. Without --vfs it is prepared as a file in \
      \(PreparationFile.folder(root: SystemRoot())) says, or as FILE (whose name ends in .toml) does. What is so already is \
      left alone. Each write is printed before it is done, as one would type it; where one fails, what was done before is \
      undone. What is in use is refused, with who uses it.

      JSON is one object for each PF, printed when it is done with: its writes, those of the way back too, and how it ended.
      """)

  @OptionGroup var format: FormatOptions

  @Option(help: ArgumentHelp("How many VFs.", valueName: "n"))
  var vfs: Int?

  @Option(
    help: ArgumentHelp("The mode of the NIC's switch: legacy, switchdev. By default it stays.", valueName: "mode"))
  var eswitch: String?

  @Option(name: .customLong("mac"), help: "The MAC address of the first VF; once more, of the next one.")
  var macs: [String] = []

  @Option(
    help: ArgumentHelp(
      "The driver for the VFs. By default the one that the kernel's modules name for the device, or vfio-pci.",
      valueName: "name"))
  var driver: String?

  @Flag(
    inversion: .prefixedNo,
    help: "Make VFs that can be migrated, and hide what can't move. By default it is done where the device knows of it."
  )
  var migratable: Bool?

  @Flag(help: "Give back what there was before; where nothing tells what that was, remove the VFs.")
  var undo = false

  @Flag(help: "Print the writes, and do none.")
  var dryRun = false

  @Flag(help: "Prepare all that the folder's files name.")
  var all = false

  @Flag(help: "Prepare PF if a file names it; if none does, say nothing.")
  var configured = false

  @Argument(help: ArgumentHelp("A physical function, or a file.", valueName: "PF"))
  var subject: String?

  /// What udev asks for is silent where there is nothing to do.
  var changesDevices: Bool { !dryRun && !configured }

  func validate() throws {
    if all != (subject == nil) { throw ValidationError(all ? "--all takes no PF" : "name a PF, or take --all") }
    let wishes = vfs != nil || eswitch != nil || !macs.isEmpty || driver != nil || migratable != nil
    if wishes, vfs == nil { throw ValidationError("--eswitch, --mac, --driver and --migratable go with --vfs") }
    if wishes, undo || all || configured {
      throw ValidationError("--undo, --all and --configured take nothing that is wished for")
    }
    if [undo, all, configured].count(where: { $0 }) > 1 {
      throw ValidationError("--undo, --all and --configured exclude each other")
    }
    _ = try wish()
  }

  /// What the options ask for; nil where a file is to say it.
  private func wish() throws -> PreparationWish? {
    guard let vfs else { return nil }
    guard (1...Int(UInt16.max)).contains(vfs) else {
      throw ValidationError("--vfs takes a number from 1; --undo removes all VFs")
    }
    let mode = try eswitch.map { text in
      guard let mode = SwitchMode(rawValue: text) else { throw ValidationError("--eswitch takes legacy or switchdev") }
      return mode
    }
    var addresses: [MACAddress] = []
    for text in macs {
      guard let address = MACAddress(text), address.isOfOne, !addresses.contains(address) else {
        throw ValidationError("--mac \(text): that is no MAC address of one function, or there twice")
      }
      addresses.append(address)
    }
    if macs.count > vfs { throw ValidationError("there are more --mac than VFs") }
    if let driver, !PreparationWish.isDriver(driver) { throw ValidationError("\"\(driver)\" is no driver's name") }
    return PreparationWish(
      functions: vfs, switchMode: mode, addresses: addresses, driver: driver, isMigratable: migratable)
  }

  func execute(_ console: Console) throws { try execute(console, root: SystemRoot()) }

  func execute(_ console: Console, root: SystemRoot) throws {
    let folder = PreparationFile.folder(root: root)
    if all { return try prepareAll(console, root, folder) }
    guard let subject else { preconditionFailure("validate() has seen to it") }
    if configured { return try prepareConfigured(subject, console, root, folder) }
    if undo { return try takeBack(subject, console, root) }
    if let wish = try wish() { return try prepare(subject, wish, console, root) }
    if subject.hasSuffix(".toml") {
      return try prepare(
        try Self.read { () throws(PreparationFile.Problem) in
          try PreparationFile(subject)
        }, console, root)
    }
    let device = try Self.device(subject, root)
    guard
      let file = try Self.read({ () throws(PreparationFile.Problem) in
        try PreparationFile.find(device, in: folder, root: root)
      })
    else { throw CommandFailure.nothing("no file in \(folder) names \(device): say how many with --vfs") }
    try prepare(file, console, root)
  }

  /// Each, whatever becomes of the others; none where two are for the same device.
  private func prepareAll(_ console: Console, _ root: SystemRoot, _ folder: String) throws(CommandFailure) {
    let paths = PreparationFile.paths(in: folder)
    if paths.isEmpty { throw .nothing("there is no file in \(folder)") }
    try Self.read { () throws(PreparationFile.Problem) in try PreparationFile.checkEachOnce(in: folder, root: root) }
    var first: CommandFailure?
    for path in paths {
      do throws(CommandFailure) {
        let file = try Self.read { () throws(PreparationFile.Problem) in try PreparationFile(path) }
        try prepare(file, console, root)
      } catch {
        // The first one is said when the program ends.
        if first != nil { console.log(.error, "vfio-ferry: \(error.message)") }
        first = first ?? error
      }
    }
    if let first { throw first }
  }

  /// What udev asks for each physical function that appears.
  private func prepareConfigured(
    _ text: String, _ console: Console, _ root: SystemRoot, _ folder: String
  ) throws(CommandFailure) {
    guard Files.exists(folder) else { return }
    let device = try? Self.device(text, root)
    let file = try Self.read { () throws(PreparationFile.Problem) in
      if let device { return try PreparationFile.find(device, in: folder, root: root) }
      return try PreparationFile.find(named: text, in: folder)
    }
    if let file { try prepare(file, console, root) }
  }

  private func prepare(_ file: PreparationFile, _ console: Console, _ root: SystemRoot) throws(CommandFailure) {
    try prepare(file.device, file.wish, console, root)
  }

  private func prepare(
    _ text: String, _ wish: PreparationWish, _ console: Console, _ root: SystemRoot
  ) throws(CommandFailure) {
    let device = try Self.device(text, root)
    let preparation = Preparation(device, root: root) { VFIOHolders(root: root).lines(for: $0) }
    let report = PrepareReport(of: device, action: "prepare", isDryRun: dryRun, format, console)
    try Self.doing(report, idle: "nothing to do, it is as wished for") { () throws(PreparationError) in
      try preparation.prepare(wish, dryRun: dryRun, announce: report.announce)
    }
  }

  private func takeBack(_ text: String, _ console: Console, _ root: SystemRoot) throws(CommandFailure) {
    let device = try Self.device(text, root)
    let preparation = Preparation(device, root: root) { VFIOHolders(root: root).lines(for: $0) }
    let report = PrepareReport(of: device, action: "undo", isDryRun: dryRun, format, console)
    try Self.doing(report, idle: "nothing to undo") { () throws(PreparationError) in
      try preparation.undo(dryRun: dryRun, announce: report.announce, note: report.note)
    }
  }

  private static func device(_ text: String, _ root: SystemRoot) throws(CommandFailure) -> PhysicalFunction {
    try doing { () throws(PreparationError) in try PhysicalFunction(named: text, root: root) }
  }

  private static func read<Value>(
    _ body: () throws(PreparationFile.Problem) -> Value
  ) throws(CommandFailure) -> Value {
    do throws(PreparationFile.Problem) { return try body() } catch { throw .misuse("\(error)") }
  }

  private static func doing(
    _ report: PrepareReport, idle: String, _ body: () throws(PreparationError) -> Preparation.Outcome
  ) throws(CommandFailure) {
    try doing { () throws(PreparationError) in
      do throws(PreparationError) {
        report.end(try body(), idle: idle)
      } catch {
        report.end(error)
        throw error
      }
    }
  }

  private static func doing<Value>(_ body: () throws(PreparationError) -> Value) throws(CommandFailure) -> Value {
    do throws(PreparationError) {
      return try body()
    } catch {
      switch error.cause {
      case .nothing: throw error.hasChanged ? .failed("\(error)") : .nothing("\(error)")
      case .refused: throw error.hasChanged ? .failed("\(error)") : .refused("\(error)")
      case .failed, .differs, .record: throw .failed("\(error)")
      }
    }
  }
}
