// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Glibc
internal import Helper
internal import LinuxIO
internal import Metrics
internal import Synchronization

struct HelperCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "helper", abstract: "Serve a VMM, which moves its devices by this.",
    discussion: """
      One process serves one VM over one connection, a Unix socket of type SOCK_SEQPACKET: inherited as descriptor N \
      (--fd), the first that connects to PATH (--listen), or from systemd (a socket unit with Accept=yes or no), which is \
      taken where neither is given. What is said on it is in docs/helper-protocol.md and include/vfio_ferry.h.

      Before it hears the first word it confines itself to that connection and what comes over it: no other file, socket, \
      process or program (docs/confinement.md). What is refused from then on is a line on standard error.

      It changes nothing unless the VMM asks for it, and ends when the VMM hangs up, or at SIGTERM, SIGINT or SIGHUP. Exit \
      status: 0 after a farewell; 1 in the middle of a move, with a line on where each device is; 3 where it can't confine \
      itself.
      """)

  @OptionGroup(title: "The connection")
  var source: HelperConnection

  @Option(
    help: ArgumentHelp(
      "Become this user, and its group or GROUP, each a name or a number, once the connection is there.",
      valueName: "USER[:GROUP]"))
  var user: String?

  @Flag(help: "Confine nothing: a VMM or a peer that takes the helper over has all that its user has.")
  var unconfined = false

  @Flag(name: .shortAndLong, help: "Log every event on standard error, and not only what is wrong.")
  var verbose = false

  @OptionGroup(title: "Metrics")
  var metrics: MetricsOptions

  @Option(
    help: ArgumentHelp("The label that tells this helper's metrics from others'; by default its process's number."))
  var metricsName: String?

  func validate() throws {
    if metricsName != nil, metrics.file == nil, metrics.socket == nil {
      throw ValidationError("--metrics-name goes with --metrics or --metrics-socket")
    }
    if unconfined, user != nil { throw ValidationError("--user is a part of what --unconfined leaves out") }
  }

  func execute(_ console: Console) throws {
    let least: LogLevel = verbose ? .info : .warning
    let log = { (level: LogLevel, line: String) in
      if level >= least { console.log(level, "vfio-ferry helper: \(line)") }
    }
    let ending: HelperServer.Ending
    do {
      var confinement = try confinement()
      try metrics.check(as: confinement?.user)
      // Who told systemd's socket wrong is told nothing, and it is served all the same.
      var notifier = (try? ServiceNotifier.take()) ?? nil
      let socket = try source.socket(log) { _ = try? notifier?.ready() }
      log(.info, "serving \(try socket.peerCredentials)")
      // Not before: until there is a VMM nobody would answer at their socket.
      let places = try metrics.places()
      confinement?.fileFolder = metrics.file.map(Files.folder(of:))
      confinement?.socketFolder = metrics.socket.map(Files.folder(of:))
      if let confinement {
        let own = [socket.descriptor.rawValue, places?.number].compactMap { $0 }
        let kept = own + (notifier.map { [$0.descriptor.rawValue] } ?? [])
        try confine(confinement, keeping: kept, log)
      } else {
        Confinement.raiseLimits()
        log(.warning, "UNCONFINED: whoever takes this process over has all that its user has")
      }
      // The file is the user's that goes on with it.
      if let places { try metrics.begin(places) }
      // After the confinement, which wants one thread, and before there are others.
      try SignalDesk.open()
      let counts = HelperMetrics(name: metricsName ?? "\(getpid())", version: VFIOFerry.version)
      // Its thread is confined as this one is.
      let service = try places.map { places in
        try MetricsService(places) {
          counts.page
        } log: { line in
          console.log(.warning, "vfio-ferry helper: metrics: \(line)")
        }
      }
      defer { service?.end() }
      let server = try HelperServer(
        socket: socket, version: "vfio-ferry \(VFIOFerry.version)", metrics: service == nil ? nil : counts, log: log)
      let wasTold = Atomic(false)
      SignalDesk.handle { [terminate = server.terminate] signal in
        if signal == SIGUSR1 { return }
        // Whoever says it again does not want to wait for what may hold it up, such as a log that nobody reads.
        if wasTold.exchange(true, ordering: .relaxed) { _exit(1) }
        terminate("ended by signal \(signal)")
      }
      _ = try? notifier?.ready()
      // There is nothing else to tell systemd, and a socket that leads out of here is not kept for nothing.
      notifier = nil
      ending = server.run()
    } catch let error as SystemError {
      throw CommandFailure.failed("\(error)")
    }
    // Whatever still waits in a device's call ends with the process, and its descriptors with it.
    if ending.status != 0 { throw CommandFailure.failed(ending.words ?? "the session ended badly") }
  }

  private func confinement() throws -> Confinement? {
    if unconfined { return nil }
    guard let user else { return Confinement() }
    guard let found = ProcessUser(user) else {
      throw CommandFailure.misuse("--user \(user): no such user or group; a number without a user wants USER:GROUP")
    }
    return Confinement(user: found)
  }

  private func confine(
    _ confinement: Confinement, keeping kept: [Int32], _ log: (LogLevel, String) -> Void
  ) throws {
    let prefix = (LogLevel.standardErrorIsJournal ? LogLevel.warning.journalPrefix : "") + "vfio-ferry helper: "
    do throws(ConfinementError) {
      for weakness in try confinement.begin(keeping: kept, prefix: prefix) { log(.warning, weakness) }
    } catch {
      throw CommandFailure.refused("nothing is served, because the helper can't confine itself: \(error)")
    }
  }
}
