// SPDX-License-Identifier: Apache-2.0
import Glibc
import Testing

@testable import LinuxIO

@Suite("What systemd says and is told")
struct SystemdTests {
  private func listening(_ path: String) throws -> Descriptor {
    let number = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0)
    let descriptor = Descriptor(owning: number, subject: path)
    let bound = unsafe try UnixAddress("@" + path, abstract: true).with { unsafe Int(bind(number, $0, $1)) }
    try #require(bound == 0)
    try #require(listen(number, 1) == 0)
    return descriptor
  }

  @Test("a socket that listens and one that is connected are taken with their names, close-on-exec")
  func takes() throws {
    let listener = try listening("ferry-listener-\(getpid())")
    let (one, _) = try PacketSocket.pair()
    for source in [listener.rawValue, one.descriptor.rawValue] {
      // A number of its own, as far up as nothing else of this process comes.
      let number = fcntl(source, F_DUPFD, 700)
      let environment = ["LISTEN_PID": "\(getpid())", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "vmm"]
      let sockets = try SystemdActivation.take(environment, pid: getpid(), first: number)
      try #require(sockets.count == 1)
      #expect(sockets[0].name == "vmm")
      switch sockets[0].socket {
      case .listener(let taken):
        #expect(source == listener.rawValue && taken.descriptor.rawValue == number)
      case .connection(let taken):
        #expect(source == one.descriptor.rawValue && taken.descriptor.rawValue == number)
      }
      #expect(fcntl(number, F_GETFD) & FD_CLOEXEC != 0)
    }
  }

  @Test(
    "sockets are looked for from 3 on, and the variables are gone afterwards, also where they are another process's")
  func environment() async {
    await #expect(processExitsWith: .success) {
      func variables(_ pid: Int32) {
        Execution.setVariable("LISTEN_PID", "\(pid)")
        Execution.setVariable("LISTEN_FDS", "1")
        Execution.setVariable("LISTEN_FDNAMES", nil)
      }
      func areGone() -> Bool {
        ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].allSatisfy { Execution.variable($0) == nil }
      }
      variables(getpid() + 1)
      guard try SystemdActivation.take().isEmpty, areGone() else { exit(1) }
      variables(getpid())
      // What is there is whatever another test had there: most often nothing, and sometimes such a socket.
      do throws(SystemError) {
        for taken in try SystemdActivation.take() {
          let descriptor =
            switch taken.socket {
            case .listener(let listener): listener.descriptor.rawValue
            case .connection(let connection): connection.descriptor.rawValue
            }
          guard descriptor == 3, taken.name == "unknown", areGone() else { exit(2) }
        }
      } catch {
        guard error.subject == "systemd's socket unknown, descriptor 3", areGone() else { exit(3) }
      }
      guard try SystemdActivation.take().isEmpty else { exit(4) }
    }
  }

  @Test(
    "variables that make no sense are refused",
    arguments: [("1", nil), ("-1", nil), ("17", nil), ("x", nil), ("2", "one"), ("1", "a:b")] as [(String, String?)])
  func nonsense(count: String, names: String?) throws {
    var environment = ["LISTEN_PID": count == "1" && names == nil ? "me" : "7", "LISTEN_FDS": count]
    environment["LISTEN_FDNAMES"] = names
    let thrown = #expect(throws: SystemError.self) { _ = try SystemdActivation.take(environment, pid: 7, first: 900) }
    #expect(thrown?.errno == EINVAL)
  }

  @Test("no variables, no sockets; a socket of another kind is named and left open")
  func none() throws {
    #expect(try SystemdActivation.take([:], pid: 7, first: 900).isEmpty)
    #expect(try SystemdActivation.take(["LISTEN_PID": "7"], pid: 7, first: 900).isEmpty)
    #expect(try SystemdActivation.take(["LISTEN_PID": "7", "LISTEN_FDS": "0"], pid: 7, first: 900).isEmpty)
    let stream = Descriptor(owning: socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0), subject: "a stream")
    let environment = ["LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "vmm"]
    let thrown = #expect(throws: SystemError.self) {
      _ = try SystemdActivation.take(environment, pid: 7, first: stream.rawValue)
    }
    #expect(thrown?.errno == EPROTOTYPE && thrown?.subject == "systemd's socket vmm, descriptor \(stream.rawValue)")
    #expect(fcntl(stream.rawValue, F_GETFD) >= 0)
  }

  /// A datagram socket that is what `NOTIFY_SOCKET` names.
  private func notified(_ path: String) throws -> Descriptor {
    let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    let descriptor = Descriptor(owning: number, subject: path)
    let bound = unsafe try UnixAddress(path, abstract: true).with { unsafe Int(bind(number, $0, $1)) }
    try #require(bound == 0)
    return descriptor
  }

  private func text(from socket: borrowing Descriptor) throws -> String {
    var bytes = [UInt8](repeating: 0, count: 256)
    var span = bytes.mutableSpan
    let count = try socket.read(into: &span)
    return String(decoding: bytes[..<count], as: UTF8.self)
  }

  @Test("it is told by a path and by a name without a file", arguments: ["@ferry-notify", "/tmp/ferry-notify"])
  func notifies(name: String) throws {
    let path = "\(name)-\(getpid())"
    defer { if path.hasPrefix("/") { Files.remove(path) } }
    let socket = try notified(path)
    let notifier = try #require(try ServiceNotifier(path: path))
    try notifier.ready()
    try notifier.status("two devices\nREADY=0")
    #expect(try text(from: socket) == "READY=1")
    #expect(try text(from: socket) == "STATUS=two devices READY=0")
  }

  @Test("nobody is told where nobody wants to know, and a listener that is gone is an error")
  func deaf() throws {
    for path in ["", "/", "@", "relative", "vsock:2:1"] { #expect(try ServiceNotifier(path: path) == nil, "\(path)") }
    let path = "/tmp/ferry-nobody-\(getpid())"
    let thrown = #expect(throws: SystemError.self) { _ = try ServiceNotifier(path: path) }
    #expect(thrown?.errno == ENOENT && thrown?.subject == path)
  }

  @Test("the variable is taken once, so that no child speaks for this process")
  func variable() async {
    await #expect(processExitsWith: .success) {
      // Nobody listens there, and the variable is gone all the same.
      Execution.setVariable("NOTIFY_SOCKET", "@ferry-nobody")
      do throws(SystemError) {
        _ = try ServiceNotifier.take()
        exit(1)
      } catch {
        guard error.errno == ECONNREFUSED, Execution.variable("NOTIFY_SOCKET") == nil else { exit(2) }
      }
      guard try ServiceNotifier.take() == nil else { exit(3) }
    }
  }
}
