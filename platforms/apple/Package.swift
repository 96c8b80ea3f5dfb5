// swift-tools-version:5.9
import Foundation
import PackageDescription

// librunnel: on Apple's systems the XCFramework that build_xcframework.sh makes, elsewhere a library in the folder that
// RUNNEL_LIBRARY names.
#if os(Linux)
  let folder = ProcessInfo.processInfo.environment["RUNNEL_LIBRARY"] ?? "."
  let library: Target = .systemLibrary(name: "CRunnel", path: "Sources/CRunnel")
  let linking: [LinkerSetting] = [.unsafeFlags(["-L\(folder)"]), .linkedLibrary("stdc++")]
#else
  let library: Target = .binaryTarget(name: "CRunnel", path: "CRunnel.xcframework")
  let linking: [LinkerSetting] = [.linkedLibrary("c++")]
#endif

let package = Package(
  name: "Runnel",
  platforms: [.iOS(.v15), .macOS(.v12), .tvOS(.v15), .visionOS(.v1)],
  products: [.library(name: "Runnel", targets: ["Runnel"])],
  targets: [
    library,
    .target(name: "Runnel", dependencies: ["CRunnel"], linkerSettings: linking),
    .testTarget(name: "RunnelTests", dependencies: ["Runnel"]),
  ]
)
